"""The commands of ``dlaconv``, one group a module; each is a plain function that calls the API."""
