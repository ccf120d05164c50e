"""How results look: tables, summaries, JSON and YAML. Pure: what is printed depends on the arguments alone."""
