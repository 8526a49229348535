"""What can be chosen about the training loop and what watches it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.config.setting import setting


@dataclass
class TrainerSettings:
    max_epochs: int = setting(10, "Passes over the training photos.", least=1)
    accelerator: str = setting(
        "auto", "auto takes a GPU where there is one.", choices=("auto", "cpu", "cuda", "mps")
    )
    strategy: str = setting(
        "auto",
        "How several processes train one network. ddp: each holds it whole; fsdp: each holds a part; auto: ddp, and one "
        "process where nobody asks for more.",
        choices=("auto", "ddp", "fsdp"),
    )
    devices: int | str = setting(
        "auto",
        "Processes of this machine, each with a GPU of its own; auto with trainer=ddp or trainer=fsdp is every GPU, and "
        "1 on a CPU.",
        least=1,
    )
    precision: str = setting(
        "auto",
        "Arithmetic of training; auto is bf16-mixed where that is faster, on GPUs from Ampere on and CPUs with AMX, else 32-true.",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    compile: bool = setting(
        False,
        "torch.compile the backbone: minutes at the start for faster steps on a GPU; refused on a CPU.",
    )
    accumulate_grad_batches: int = setting(
        1, "Batches whose gradients are summed before one optimizer step.", least=1
    )
    gradient_clip_val: float = setting(
        0.0, "Largest norm of the gradient; 0 does not clip.", least=0
    )
    limit_train_batches: int | None = setting(
        None, "Training batches an epoch; null takes all.", least=1
    )
    limit_val_batches: int | None = setting(
        None, "Validation and test batches; null takes all.", least=1
    )
    checkpoint_minutes: float = setting(
        10.0,
        "Minutes between checkpoints within an epoch, from which a killed run goes on to the same end; 0: after epochs only.",
        least=0,
    )
    checkpoint_steps: int = setting(
        0,
        "As trainer.checkpoint_minutes, but every so many batches of an epoch; 0: by minutes.",
        least=0,
    )
    deterministic: bool = setting(
        True,
        "Choose operations whose result does not change from run to run, where there are such.",
    )


@dataclass
class CallbackSettings:
    early_stopping_patience: int = setting(
        0, "Epochs without a better hpo.metric before training ends; 0 never stops early.", least=0
    )
    ema_decay: float = setting(
        0.0,
        "Decay a step of an exponential moving average of the weights; 0 is off.",
        least=0,
        most=0.99999,
    )


@dataclass
class LoggerSettings:
    tensorboard: bool = setting(False, "Write TensorBoard events into the run directory.")
    mlflow: bool = setting(False, "Log to MLflow.")
    mlflow_uri: str = setting("auto", "MLflow tracking URI; auto is a SQLite file beside the runs.")
