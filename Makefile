# The verbs of scripts/, for those who type make. Options: make test ARGS="-m 'not slow'"

ARGS ?=

.PHONY: help demo test check lint bench

help:
	@echo "make demo    five connectors in a line, packets through all of them"
	@echo "make test    lint, types and the whole test suite"
	@echo "make check   lint and types only"
	@echo "make lint    format, and mend what can be mended"
	@echo "make bench   packets per second through one connector"

demo test check lint bench:
	@scripts/$@ $(ARGS)
