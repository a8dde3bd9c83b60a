module saoma/benchmarks/driver

go 1.22
