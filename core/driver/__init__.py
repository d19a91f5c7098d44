"""The driver: the one package that knows frontends, passes and backend."""
