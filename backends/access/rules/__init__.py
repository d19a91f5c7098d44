"""The compliance rules of the ACCESS guide, one a file."""
