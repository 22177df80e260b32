"""The figures of a report, one a file, drawn with matplotlib; each with its words."""
