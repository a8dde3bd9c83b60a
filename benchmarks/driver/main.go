// Command driver asks a server as fast as it answers, and tells what it saw as one JSON document (wait: several).
//
//	driver replay|login|wait [options]
//
// Each subcommand is a file of that name; -h lists its options.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
)

var commands = map[string]func(arguments []string) (any, error){
	"login":  login,
	"replay": replay,
	"wait":   wait,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "driver: the first argument is login, replay or wait")
		os.Exit(2)
	}
	debug.SetGCPercent(400) // a pause of ours would be taken for one of the server's
	said, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
	if said != nil {
		_ = json.NewEncoder(os.Stdout).Encode(said)
	}
}
