"""Fine-tune image classifiers: on this machine, on Amazon SageMaker, or in a rehearsal of it."""

__version__ = "0.1.0"
