"""The quantised intermediate representation: exact formats, dialect, passes, scale assignment."""
