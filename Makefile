# `make demo` and `make test` work from a bare clone; they need Python 3.11 or 3.12 and nothing else.

# The first Python of the right version that really starts (a version manager's shim may not).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
# One version of it, on the PATH or where pyenv has it.
found = $(shell for p in python$(1) "$$(pyenv root 2>/dev/null)"/versions/$(1).*/bin/python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != tuple(map(int, "$(1)".split("."))))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := -m pytest -n auto --maxprocesses 8 --dist worksteal -q
STAMP := $(VENV)/.installed
SMDEBUG := .venv-smdebug
TOOLKITS := .venv-toolkits
PEERS := .venv-peers
LOWEST := .venv-lowest
TOOLS := .venv-tools
MUTANTS := .venv-mutants
FUZZ := .venv-fuzz
IMAGE := .venv-image
SBOM := runs/sbom.cdx.json

PIP := -m pip --quiet --disable-pip-version-check
# Every file that pip takes from an index has a hash in requirements/locked, what builds wheels included.
HASHED := $(PIP) install --require-hashes --no-build-isolation
LOCKED := requirements/locked

.PHONY: demo test part check coverage slow hostile faults fuzz mutants cloud-faults disk-faults load kills kills-stages \
	kills-spot bench pipeline compute smdebug toolkits peers compat lowest rehearse format venv lock audit sbom clean

# Where this is set, each of the hundreds of processes of the tests compiles our modules anew.
unexport PYTHONDONTWRITEBYTECODE

demo: $(STAMP)
	$(BIN)/python launch/local.py experiment=digits

test: $(STAMP)
	$(BIN)/python $(PYTEST) -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

# The same, counting the lines that they reach, which takes half as long again.
coverage: $(STAMP)
	$(BIN)/python $(PYTEST) -m "not slow" --cov --cov-report=term --cov-fail-under=90

# The tests that take minutes, and studies that are killed at random moments.
slow: $(STAMP)
	$(BIN)/python $(PYTEST) -m slow
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

# A million inputs that nobody has thought of, for everything that comes from outside.
fuzz: $(STAMP) $(FUZZ)/.installed
	$(FUZZ)/bin/python benchmarks/fuzz.py executions=1000000

# One operator, number, text or argument is changed at a time: do the tests notice?
mutants: $(STAMP) $(MUTANTS)/.installed
	$(MUTANTS)/bin/python benchmarks/mutants.py

# Every command that talks to AWS, behind a line that breaks; and what a full or read-only disk does to the others.
cloud-faults: $(STAMP)
	$(BIN)/python benchmarks/cloud_faults.py faults=5000 seed=1

disk-faults: $(STAMP)
	$(BIN)/python benchmarks/disk_faults.py

# What grows with photos, classes, trials and pixels, beside bounds.
load: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/load.py

# Trainings that are ended at random moments, and must end as if they had not been; everything else, likewise; and spot
# machines of a rehearsal.
kills: $(STAMP)
	$(BIN)/python benchmarks/kills_training.py kills=500 seed=1

kills-stages: $(STAMP)
	$(BIN)/python benchmarks/kills_stages.py kills=200 seed=1

kills-spot: $(STAMP)
	$(BIN)/python benchmarks/kills_spot.py kills=200 seed=1

# How fast photos are loaded, and what a step costs, against ImageFolder with Pillow and a plain loop.
pipeline: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pipeline.py

compute: $(STAMP)
	$(BIN)/python benchmarks/compute.py isa resnet18 8

# The real smdebug reads our trials, we read its own, and its hook watches a training; AWS's inference toolkits answer
# with the code of a bundle.
compat: $(STAMP) $(SMDEBUG)/.installed $(TOOLKITS)/.installed
	$(BIN)/python $(PYTEST) tests/compat

# A part of the suite, on the other Python or on the lowest versions: what loads, trains, exports, serves and asks AWS.
PART := tests/stories tests/bundle

part: $(STAMP)
	$(BIN)/python $(PYTEST) -m "not slow" $(PART)

# On a Python of its own, such as `make test-3.12`.
test-3.%:
	$(MAKE) part VENV=.venv-3.$* WANTED=3.$* PYTHON="$(call found,3.$*)"

lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python supply/installed.py $(LOCKED)/lowest.txt
	@# A rehearsed job installs the pinned versions, as a real one does.
	$(LOWEST)/bin/python $(PYTEST) -m "not slow" $(PART) --ignore tests/stories/test_rehearsal.py \
		--deselect tests/stories/test_leaks.py::test_what_a_job_leaves_and_is_told_holds_no_secret

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
	$(1)/bin/python $(HASHED) --no-deps -r $(2)
endef

$(SMDEBUG)/.installed: $(LOCKED)/smdebug.txt $(STAMP)
	$(call over_ours,$(SMDEBUG),$<)
	@touch $@

$(TOOLKITS)/.installed: $(LOCKED)/toolkits.txt $(STAMP)
	$(call over_ours,$(TOOLKITS),$<)
	@# Both packages bring a folder sagemaker_inference: the other one lies apart.
	sed -n '/^sagemaker-pytorch-inference==/,/[^\]$$/p' $< > $(TOOLKITS)/carried.txt
	$(TOOLKITS)/bin/python $(HASHED) --no-deps --target $(TOOLKITS)/carried -r $(TOOLKITS)/carried.txt
	@touch $@

# The lowest versions that pyproject.toml allows, over our own packages, of which only the tests' are then used.
$(LOWEST)/.installed: $(LOCKED)/lowest.txt $(STAMP)
	$(call over_ours,$(LOWEST),$<)
	@touch $@

$(FUZZ)/.installed: $(LOCKED)/fuzz.txt $(STAMP)
	$(call over_ours,$(FUZZ),$<)
	@touch $@

$(MUTANTS)/.installed: $(LOCKED)/mutants.txt $(STAMP)
	$(call over_ours,$(MUTANTS),$<)
	@touch $@

$(PEERS)/.installed: $(LOCKED)/peers.txt $(STAMP)
	$(call over_ours,$(PEERS),$<)
	@touch $@

# The whole SageMaker journey on this machine, compared with the local run, and what it costs on top.
rehearse: $(STAMP)
	$(BIN)/python benchmarks/rehearse.py runs/rehearsed

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

$(STAMP): $(LOCKED)/build.txt $(LOCKED)/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python $(or $(WANTED),3.11 or 3.12) found. Install one, or type make PYTHON=PATH." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(HASHED) -r $(LOCKED)/build.txt
	$(BIN)/python $(HASHED) -r $(LOCKED)/dev.txt
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# uv, pip-audit and what writes SBOMs.
$(TOOLS)/.installed: $(LOCKED)/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python $(HASHED) -r $<
	@touch $@

# After a change of requirements/*.txt: every version and hash anew, for every platform and both Pythons. `make lock
# WORDS=upgrade=yes` takes the newest of what no file pins itself.
lock: $(TOOLS)/.installed
	$(TOOLS)/bin/python supply/lock.py $(WORDS)

# Is a vulnerability known of anything that is pinned? WORDS=advisories=FOLDER asks a folder instead of the network.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python supply/audit.py $(WORDS)

# What the image's Python has, installed here by the steps of docker/Dockerfile, whose build writes the same list.
sbom: $(TOOLS)/.installed $(IMAGE)/.installed
	$(TOOLS)/bin/python supply/sbom.py $(IMAGE)/bin/python $(LOCKED)/image.txt $(SBOM)

$(IMAGE)/.installed: $(LOCKED)/image.txt $(STAMP)
	$(BIN)/python -m venv --clear $(IMAGE)
	$(IMAGE)/bin/python $(HASHED) -r $<
	$(BIN)/python $(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(IMAGE)/wheels .
	$(IMAGE)/bin/python $(PIP) install --no-deps $(IMAGE)/wheels/*.whl
	@touch $@

clean:
	rm -rf .venv .venv-3.* $(SMDEBUG) $(TOOLKITS) $(PEERS) $(LOWEST) $(TOOLS) $(IMAGE) \
		$(FUZZ) $(MUTANTS) runs data
