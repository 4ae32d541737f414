"""The training loop. It owns data, devices, checkpoints, logging and evaluation, and knows no method by name."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jax_mspac import config as config_lib
from jax_mspac.data import listing
from jax_mspac.data.batches import training_batches
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Embed, Evaluator
from jax_mspac.methods.base import READS, Batch, Fitted, Method, State, Trained
from jax_mspac.models import pretrained, weight_files
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs import provenance, results
from jax_mspac.runs import workdir as workdir_lib
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import measure_baselines, report, trained_identities
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runs.logging import MetricsLog, ProgressLine
from jax_mspac.runtime import distributed, memory, parallel, preemption
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector
from jax_mspac.training.fitting import fitted
from jax_mspac.training.nonfinite import Watch, guarded

# Steps of training-mode forward passes that settle BatchNorm statistics of loaded weights: 0.9 ** 30 is 4 %.
_SETTLING_STEPS = 30


def train(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Trains to the end of the run, from its last checkpoint if there is one, and evaluates the result.

    Args:
      config: validated.
      workdir: folder of the run; made if it is missing.

    Returns:
      The results: see `results`.

    Raises:
      UserError: the data, the config or the workdir do not allow the run.
      Interrupted: a signal asked to stop; the state is saved.
    """
    if config.batch.identities % jax.device_count():
        raise UserError(
            f"config.batch.identities is {config.batch.identities}, which {jax.device_count()} devices cannot share "
            f"equally; make it a multiple of {jax.device_count()}"
        )
    shared = parallel.groups(jax.device_count(), config.batch.group_devices) or [[]]
    if config.batch.identities < 2 * len(shared):
        raise UserError(
            f"config.batch.identities is {config.batch.identities} for {len(shared)} groups of "
            f"config.batch.group_devices={config.batch.group_devices} devices with a batch each; make it "
            f"{2 * len(shared)} or more, as the losses of a batch compare identities"
        )
    with workdir_lib.opened(config, workdir) as folder:
        distributed.check_shared(folder)
        return _train(Experiment(config, folder))


def _train(experiment: Experiment) -> dict[str, Any]:
    config, workdir = experiment.config, experiment.folder
    train_set = experiment.images(*config.data.train_splits)
    method = experiment.method(train_set.num_identities)
    embed = experiment.embed(method)
    test = experiment.evaluator()
    monitor = _monitor(experiment, test) if config.eval.every else None
    loop = _loop(experiment, method, train_set) if isinstance(method, Trained) else None
    print(
        f"{len(train_set)} training images of {train_set.num_identities} identities, "
        f"{len(test.image_set)} test images of {test.image_set.num_identities}; "
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
        + (f", {loop.sampler.batch_size} images per step" if loop else ""),
        flush=True,
    )
    if loop and (names := loop.sampler.never_drawn):
        print(
            f"warning: {len(names)} of these training identities lack images of a modality that batches have, and are "
            f"never drawn: {', '.join(listing.shorten(names, 5))}",
            flush=True,
        )

    with Checkpoints(workdir / FOLDER, keep=config.checkpoint.keep) as checkpoints:
        missed: dict[str, float] = {}
        if checkpoints.steps:
            trained_identities(experiment, test.image_set, provenance.resumed(workdir, train_set))
            like = jax.eval_shape(method.init, jax.random.key(0))
            state = checkpoints.restore_latest(like)
            print(f"resuming from the checkpoint of step {state.step}", flush=True)
            if loop and monitor and not checkpoints.evaluated(int(state.step)):
                missed = scores(state, monitor, embed)
        else:
            weights = config.model.pretrained
            origin = provenance.record(train_set, test.image_set, data=config.data, weights=weights)
            trained_identities(experiment, test.image_set, origin)
            if distributed.is_main():
                provenance.keep(workdir, origin)
            state = initial_state(config, method)
            if config.eval.baselines:
                measure_baselines(test, workdir, _untrained(loop, state, test, embed) if loop else {})
        main = distributed.is_main()
        with MetricsLog(workdir, start=int(state.step), missed=missed, read_only=not main) as log:
            if missed:
                checkpoints.save(state, score=_rank(missed, monitor))
            if loop:
                state = loop.run(state, checkpoints, log, monitor, embed)
        if isinstance(method, Fitted) and not method.is_fitted(state):
            state = fitted(
                method,
                jax.device_get(state),
                train_set,
                image_size=experiment.image_size,
                batch=config.eval.batch,
                seed=config.seed,
            )
            checkpoints.save(state)
    return report(experiment, test, embed, _local(state.variables), step=int(state.step))


def initial_state(config: ConfigDict, method: Method) -> State:
    """Step 0 on the host: random parameters, and the backbone of `model.pretrained`. A function of the config alone."""
    # The default generator takes three times as long to compile for the many shapes of a network.
    state = jax.device_get(jax.jit(method.init)(jax.random.key(config.seed, impl="rbg")))
    weights = os.path.expanduser(config.model.pretrained)
    if weights != "none" and isinstance(method, Trained):
        source = f"model.pretrained={weights}"
        if os.path.isdir(weights):
            origin = Experiment.opened(pathlib.Path(weights))
            names = BACKBONES[origin.config.model.backbone].torch_names
            tensors = pretrained.tensors_of(origin.restore("latest")[1].get("embedder", {}), names, source=source)
        else:
            tensors = weight_files.load_tensors(weight_files.resolve(weights))
        state = method.load_pretrained(state, tensors, source=source)
    return jax.device_get(state)


def _loop(experiment: Experiment, method: Trained, train_set: ImageSet) -> "_Loop":
    config = experiment.config
    batch = config.batch
    sampler = IdentitySampler(
        train_set, seed=config.seed, identities=batch.identities, images=(batch.visible, batch.infrared)
    )
    return _Loop(
        method=method,
        sampler=sampler,
        image_size=experiment.image_size,
        settings=Collector().of(config_lib.TrainSettings, "train", config.train),
        checkpoint_every=config.checkpoint.every,
        evaluate_every=config.eval.every,
        starts_from_weights=config.model.pretrained != "none",
    )


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The steps of a run.

    Attributes:
      method: what is trained.
      sampler: the batches.
      image_size: (height, width) in pixels.
      settings: of the loop.
      checkpoint_every: steps.
      evaluate_every: steps; 0 for only at the end.
      starts_from_weights: whether the first state holds loaded weights.
    """

    method: Trained
    sampler: IdentitySampler
    image_size: tuple[int, int]
    settings: config_lib.TrainSettings
    checkpoint_every: int
    evaluate_every: int
    starts_from_weights: bool

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's share of the batches of steps start..stop-1."""
        process, local = jax.process_index(), jax.local_device_count()
        return training_batches(
            self.sampler,
            height=self.image_size[0],
            width=self.image_size[1],
            start=start,
            stop=stop,
            devices=jax.device_count(),
            local_devices=slice(process * local, (process + 1) * local),
            keep_bytes=int(self.settings.decoded_gb * 1e9),
        )

    def run(
        self,
        state: State,
        checkpoints: Checkpoints,
        log: MetricsLog,
        monitor: Evaluator | None,
        embed: Embed,
    ) -> State:
        """Trains from the state's step to the last one.

        Batches are sent one step early and metrics fetched one step late, so that the devices never wait for the host;
        only where a step is saved or evaluated does the host catch up. Nothing else is transferred in a step.
        """
        settings, start, steps = self.settings, int(state.step), self.settings.steps
        update = parallel.data_parallel(guarded(self.method.update, skip=settings.skip_nonfinite > 0))
        line = ProgressLine(
            start=start,
            steps=steps,
            images_per_step=self.sampler.batch_size,
            images_per_epoch=len(self.sampler.image_set),
        )
        watch = Watch(limit=settings.skip_nonfinite, skipped=int(log.last.get("skipped", 0)), files_of=self._files_of)

        def fetched(step: int, metrics: dict[str, jax.Array], batch: Batch) -> dict[str, float]:
            return watch.check(step, {name: float(value) for name, value in jax.device_get(metrics).items()}, batch)

        # As every step returns it; a state of the host would be another signature, and compile the first step alone.
        state, waiting = parallel.replicate(state), None
        batches = parallel.sharded_ahead(self.batches(start, steps), self._read)
        with preemption.postponed(), contextlib.closing(line):
            for step, (batch, placed) in enumerate(batches, start + 1):
                with parallel.explicit_transfers():
                    state, metrics = update(state, placed)
                    last = (waiting[0], fetched(*waiting)) if waiting else None
                if last and last[0] % settings.log_every == 0:
                    log.write(last[0], last[1] | {"images_per_second": line.show(*last)})
                waiting = (step, metrics, batch)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    memory.give_back()
                    line.restart(step)
                stops = preemption.requested()
                evaluates = monitor is not None and step % self.evaluate_every == 0
                if stops or evaluates or step % self.checkpoint_every == 0 or step == steps:
                    scalars, waiting = fetched(*waiting), None
                    scalars["images_per_second"] = line.show(step, scalars)
                    measured: dict[str, float] | None = {}
                    if monitor and evaluates:
                        line.close()
                        try:
                            with preemption.immediate():
                                measured = scores(state, monitor, embed)
                        except preemption.Interrupted:
                            measured = None
                        memory.give_back()
                    log.write(step, scalars | (measured or {}))
                    checkpoints.save(state, score=_rank(measured, monitor), evaluated=measured is not None)
                    if stops or measured is None:
                        checkpoints.wait()
                        raise preemption.after(step)
                    line.restart(step)
        return state

    def _read(self, batch: Batch) -> Batch:
        """What the method reads of a batch."""
        names = getattr(self.method, "reads", READS)
        return {modality: {name: samples[name] for name in names} for modality, samples in batch.items()}

    def _files_of(self, batch: Batch) -> list[str]:
        paths = self.sampler.image_set.paths
        return [paths[i] for samples in batch.values() for i in samples["index"].ravel()]


def scores(state: State, monitor: Evaluator, embed: Embed) -> dict[str, float]:
    """The primary metric's scores on the monitored split, to log."""
    outcome = monitor.evaluate(embed, _local(state.variables))
    row = outcome["rows"][outcome["primary"]]
    shown = f"rank-1 {_percent(row['rank1'])}, mAP {_percent(row['mAP'])}"
    print(f"step {jax.device_get(state.step)}, {monitor.split} split: {shown}", flush=True)
    return {f"{monitor.split}/{name}": row[name]["mean"] for name in results.SCORES}


def _rank(scores: Mapping[str, float] | None, monitor: Evaluator | None) -> float | None:
    """What ranks a checkpoint. Test identities never choose one."""
    return scores[f"{monitor.split}/mAP"] if scores and monitor and monitor.split != "test" else None


def _monitor(experiment: Experiment, test: Evaluator) -> Evaluator:
    """What the evaluations while training look at: the configured split, or the test split if there is none."""
    split = experiment.evaluation.monitor_split
    if split == "test":
        return test
    if split not in experiment.splits:
        print(f"no {split} split: watching the test split instead, which chooses no checkpoint", flush=True)
        return test
    return experiment.evaluator(split)


def _local(variables: Any) -> Any:
    """Variables of a training state for inference, which runs on the devices of this process."""
    return parallel.replicate(jax.device_get(variables))


def _untrained(loop: _Loop, state: State, test: Evaluator, embed: Embed) -> dict[str, np.ndarray]:
    """The primary metric's feature of a network as its loaded weights are; nothing where it starts from random ones."""
    if not loop.starts_from_weights:
        return {}
    return {"pretrained": test.embed(embed, parallel.replicate(_settled(loop, state)))[test.settings.feature]}


def _settled(loop: _Loop, state: State) -> Any:
    """The variables with the given parameters and BatchNorm statistics of the training images.

    Statistics that came with the weights may be of another domain, and make the frozen network look worse than it is.
    """
    settle = parallel.data_parallel(lambda variables, batch: (loop.method.settle(variables, batch), ()))
    variables = parallel.replicate(state.variables)
    for batch in loop.batches(0, _SETTLING_STEPS):
        variables, _ = settle(variables, parallel.shard(loop._read(batch)))
    return jax.device_get(variables)


def _percent(score: Mapping[str, float]) -> str:
    return f"{100 * score['mean']:.1f} %"
