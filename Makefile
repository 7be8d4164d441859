# The few commands. `make help` lists them.
.PHONY: help demo replay test lint unit

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 18

demo: ## Run the whole pipeline on a real container (installs what it needs)
	scripts/bootstrap demo
	.venv/bin/vexstream demo $(ARGS)

replay: ## Show the recorded run instead: no root, no eBPF
	scripts/bootstrap replay
	.venv/bin/vexstream demo --replay services/local/demo-run.avro $(ARGS)

test: ## Run all tests on the real things (installs what they need)
	scripts/bootstrap test
	.venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

unit: ## Run the fast tests alone
	.venv/bin/python -m pytest tests/unit $(ARGS)

lint: ## Format and lint in place
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
