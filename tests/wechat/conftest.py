from hypothesis import HealthCheck, settings

# A busy machine makes an example slow, never wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
