"""The ACCESS backend: writer, reader, rules, simulator."""
