# `make demo` and `make test` work from a bare clone; they need Python 3.11 or 3.12 and nothing else.

# The first Python of the right version that really starts (a version manager's shim may not).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal -q
STAMP := .venv/.installed
SMDEBUG := .venv-smdebug
TOOLKITS := .venv-toolkits
PEERS := .venv-peers

.PHONY: demo test check coverage slow hostile faults bench pipeline compute smdebug toolkits peers compat rehearse format venv lock clean

demo: $(STAMP)
	$(BIN)/python launch/local.py experiment=digits

test: $(STAMP)
	$(PYTEST) -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

# The same, counting the lines that they reach, which takes half as long again.
coverage: $(STAMP)
	$(PYTEST) -m "not slow" --cov --cov-report=term --cov-fail-under=90

# The tests that take minutes, and studies that are killed at random moments.
slow: $(STAMP)
	$(PYTEST) -m slow
	$(BIN)/python benchmarks/kills.py 40

# A real server under twelve thousand requests that mean no good.
hostile: $(STAMP)
	$(BIN)/python benchmarks/hostile.py

# Trainings with one thing wrong each, and twenty healthy ones: a table of which rules have found what.
faults: $(STAMP)
	$(BIN)/python benchmarks/faults.py

# Ours against torchvision, timm, fastai, transformers and Lightning, in one plan; figures and a picture in runs/bench.
bench: $(STAMP) $(PEERS)/.installed
	$(BIN)/python benchmarks/bench.py

# How fast photos are loaded, and what a step costs, against ImageFolder with Pillow and a plain loop.
pipeline: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pipeline.py

compute: $(STAMP)
	$(BIN)/python benchmarks/compute.py isa resnet18 8

# The real smdebug reads our trials, we read its own, and its hook watches a training; AWS's inference toolkits answer
# with the code of a bundle.
compat: $(STAMP) $(SMDEBUG)/.installed $(TOOLKITS)/.installed
	$(PYTEST) tests/compat

# An environment that has smdebug: our own packages, and over them what requirements/smdebug.txt names.
smdebug: $(SMDEBUG)/.installed

# AWS's inference toolkits and TorchServe, likewise, over our own packages.
toolkits: $(TOOLKITS)/.installed

peers: $(PEERS)/.installed

# A .pth file there leads to our packages, and to the .pth files among them, which is how sagelight itself is found.
define over_ours
	$(BIN)/python -m venv --clear --without-pip $(1)
	$(BIN)/python -c "import sysconfig as s; print('import site; site.addsitedir(%r)' % s.get_path('purelib'))" \
		> "$$($(1)/bin/python -c "import sysconfig as s; print(s.get_path('purelib'))")/sagelight.pth"
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(2)
endef

$(SMDEBUG)/.installed: requirements/smdebug.txt $(STAMP)
	$(call over_ours,$(SMDEBUG),$<)
	@touch $@

$(TOOLKITS)/.installed: requirements/toolkits.txt $(STAMP)
	$(call over_ours,$(TOOLKITS),$<)
	@# Both packages bring a folder sagemaker_inference: the other one lies apart.
	$(TOOLKITS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(TOOLKITS)/carried \
		$$(grep ^sagemaker-pytorch-inference== $<)
	@touch $@

$(PEERS)/.installed: requirements/peers.txt $(STAMP)
	$(call over_ours,$(PEERS),$<)
	@touch $@

# The whole SageMaker journey on this machine, compared with the local run, and what it costs on top.
rehearse: $(STAMP)
	$(BIN)/python benchmarks/rehearse.py runs/rehearsed

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

$(STAMP): $(wildcard requirements/*.txt) pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Install one, or type make PYTHON=PATH." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt -c requirements/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# After a change of requirements/*.txt: resolve anew in a fresh environment, and pin what came out.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet -r requirements/dev.txt
	{ sed -n '/^#/p' requirements/constraints.txt; .venv-lock/bin/python -m pip freeze; } > .constraints.new
	mv .constraints.new requirements/constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv $(SMDEBUG) $(TOOLKITS) $(PEERS) runs data
