# The verbs of scripts/, for those who type make. Options: make test ARGS="--quick -k outbox"

ARGS ?=
# Handed on to the compose-tb-* verbs, which are explained by scripts/compose-tb.sh --help.
export CONTAINER BACKUP FILE FOLLOW REPLICA

.PHONY: help demo dev quick test full check lint bench docs release \
  compose-tb-init compose-tb-build compose-tb-format compose-tb-up compose-tb-down \
  compose-tb-down-volumes compose-tb-status compose-tb-logs compose-tb-recover compose-tb-backup \
  compose-tb-restore

help:
	@echo "make demo    five connectors in a line, packets through all of them"
	@echo "make dev     a connector with its accounts in TigerBeetle, until Ctrl-C"
	@echo "make quick   unit tests and a few examples of each property: while you work, a minute"
	@echo "make test    checks and all tests but the slow ones: before a change is taken, 8 minutes"
	@echo "make full    everything, on the sources and on the compiled core: 30 minutes"
	@echo "make check   lint and types only"
	@echo "make lint    format, and mend what can be mended"
	@echo "make bench   packets per second through one connector"
	@echo "make docs    the documentation as a site, in build/site"
	@echo "make release ARGS=--dry-run   everything of a release, in dist/"
	@echo ""
	@echo "A TigerBeetle cluster of three replicas in containers (docs/deployment.md):"
	@echo "make compose-tb-init          build, format, up"
	@echo "make compose-tb-build         the image"
	@echo "make compose-tb-format        the data files that are missing"
	@echo "make compose-tb-up            start, and wait until healthy"
	@echo "make compose-tb-down          stop; the data files stay"
	@echo "make compose-tb-down-volumes  stop and remove the data files (asks)"
	@echo "make compose-tb-status        replicas and connectors"
	@echo "make compose-tb-logs          of all, or CONTAINER=tigerbeetle-0; FOLLOW=1"
	@echo "make compose-tb-recover       REPLICA=tigerbeetle-2, which lost its data file, from the others (asks)"
	@echo "make compose-tb-backup        into backups/"
	@echo "make compose-tb-restore       the latest, or BACKUP=<name> (asks)"

demo dev test check lint bench docs release:
	@scripts/$@ $(ARGS)

quick full:
	@scripts/test --$@ $(ARGS)

compose-tb-init compose-tb-build compose-tb-format compose-tb-up compose-tb-down compose-tb-down-volumes compose-tb-status compose-tb-logs compose-tb-recover compose-tb-backup compose-tb-restore:
	@scripts/compose-tb.sh $(@:compose-tb-%=%) $(ARGS)
