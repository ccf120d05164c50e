"""The options that describe a service, by theme: a Struct of options each, and what they make of a part of a spec."""
