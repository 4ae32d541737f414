"""The training loop. It owns data, devices, checkpoints, logging and evaluation, and knows no method by name."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_mspac import methods
from jax_mspac.data import datasets
from jax_mspac.data.input import training_batches
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Embed, Evaluator, compiled_embed
from jax_mspac.methods.base import Batch, Fitted, Method, State
from jax_mspac.models import pretrained
from jax_mspac.runs import evaluate, inference, results
from jax_mspac.runs import workdir as workdir_lib
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.logging import MetricsLog, ProgressLine
from jax_mspac.runtime import distributed, memory, parallel, preemption
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
    with workdir_lib.opened(config, workdir) as folder:
        distributed.check_shared(folder)
        return _train(config, folder)


def _train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    builder = distributed.in_turn(lambda: datasets.prepared(config.data))
    train_set = datasets.load(builder, tuple(config.data.train_splits))
    distributed.check_same("the training images", train_set.images)
    sampler = IdentitySampler(
        train_set,
        seed=config.seed,
        identities=config.batch.identities,
        images=(config.batch.visible, config.batch.infrared),
    )
    method = methods.build(config, num_identities=train_set.num_identities)
    embed = compiled_embed(method, flip=config.eval.flip)
    test = Evaluator(datasets.load(builder, ("test",)), config)
    distributed.check_same("the test images", test.image_set.images)
    monitor = _monitor(config, builder, test) if config.eval.every else None
    skip = config.train.skip_nonfinite > 0
    update = parallel.data_parallel(guarded(method.update, skip=skip))
    loop = _Loop(config, method, sampler, update)
    print(
        f"{len(train_set)} training images of {train_set.num_identities} identities, "
        f"{len(test.image_set)} test images of {test.image_set.num_identities}; "
        f"{sampler.batch_size} images per step on {jax.device_count()} {jax.devices()[0].device_kind} device(s)",
        flush=True,
    )

    with Checkpoints(workdir / FOLDER, keep=config.checkpoint.keep) as checkpoints:
        missed: dict[str, float] = {}
        if checkpoints.steps:
            like = jax.eval_shape(method.init, jax.random.key(0))
            state = checkpoints.restore_latest(like)
            print(f"resuming from the checkpoint of step {state.step}", flush=True)
            if monitor and not checkpoints.evaluated(int(state.step)):
                missed = loop.scores(state, monitor, embed)
        else:
            state = initial_state(config, method)
            if config.eval.baselines:
                _measure_baselines(loop, state, test, embed, workdir)
        main = distributed.is_main()
        with MetricsLog(workdir, start=int(state.step), missed=missed, read_only=not main) as log:
            if missed:
                checkpoints.save(state, score=_rank(missed, monitor))
            if method.learns:
                state = loop.run(state, checkpoints, log, monitor, embed)
        if isinstance(method, Fitted) and not method.is_fitted(state):
            state = fitted(method, jax.device_get(state), train_set, config)
            checkpoints.save(state)
    return evaluate.report(
        config, workdir, test, embed, _local(state.variables), step=int(state.step), notes=datasets.notes(builder)
    )


def initial_state(config: ConfigDict, method: Method) -> State:
    """Step 0 on the host: random parameters, and the backbone of `model.pretrained`. A function of the config alone."""
    # The default generator takes three times as long to compile for the many shapes of a network.
    init = jax.jit(method.init)
    state = jax.device_get(init(jax.random.key(config.seed, impl="rbg")))
    weights = config.model.pretrained
    if weights != "none":
        source = f"model.pretrained={weights}"
        if os.path.isdir(weights):
            tensors = pretrained.tensors_of(inference.load(weights).variables, source=source)
        else:
            tensors = pretrained.load_tensors(pretrained.resolve(weights))
        state = method.load_pretrained(state, tensors, source=source)
    return jax.device_get(state)


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The steps of a run.

    Attributes:
      config: validated.
      method: what is trained.
      sampler: the batches.
      update: the compiled step.
    """

    config: ConfigDict
    method: Method
    sampler: IdentitySampler
    update: Any

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's share of the batches of steps start..stop-1."""
        data, process, local = self.config.data, jax.process_index(), jax.local_device_count()
        return training_batches(
            self.sampler,
            height=data.height,
            width=data.width,
            start=start,
            stop=stop,
            devices=jax.device_count(),
            local_devices=slice(process * local, (process + 1) * local),
            keep_bytes=int(self.config.train.decoded_gb * 1e9),
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

        Metrics are fetched one step late, so that the devices never wait for the host; only where a step is saved or
        evaluated does the host catch up.
        """
        config, start, steps = self.config, int(state.step), self.config.train.steps
        line = ProgressLine(
            start=start,
            steps=steps,
            images_per_step=self.sampler.batch_size,
            images_per_epoch=len(self.sampler.image_set),
        )
        watch = Watch(
            limit=config.train.skip_nonfinite, skipped=int(log.last.get("skipped", 0)), files_of=self._files_of
        )

        def fetched(step: int, metrics: dict[str, jax.Array], batch: Batch) -> dict[str, float]:
            return watch.check(step, {name: float(value) for name, value in jax.device_get(metrics).items()}, batch)

        # As every step returns it; a state of the host would be another signature, and compile the first step alone.
        state, waiting = parallel.replicate(state), None
        with preemption.postponed(), contextlib.closing(line):
            for step, batch in enumerate(self.batches(start, steps), start + 1):
                state, metrics = self.update(state, parallel.shard(batch))
                if waiting:
                    before, scalars = waiting[0], fetched(*waiting)
                    if before % config.train.log_every == 0:
                        log.write(before, scalars | {"images_per_second": line.show(before, scalars)})
                waiting = (step, metrics, batch)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    memory.give_back()
                    line.restart(step)
                stops = preemption.requested()
                evaluates = monitor is not None and step % config.eval.every == 0
                if stops or evaluates or step % config.checkpoint.every == 0 or step == steps:
                    scalars, waiting = fetched(*waiting), None
                    scalars["images_per_second"] = line.show(step, scalars)
                    scores: dict[str, float] | None = {}
                    if evaluates:
                        line.close()
                        try:
                            with preemption.immediate():
                                scores = self.scores(state, monitor, embed)
                        except preemption.Interrupted:
                            scores = None
                        memory.give_back()
                    log.write(step, scalars | (scores or {}))
                    checkpoints.save(state, score=_rank(scores, monitor), evaluated=scores is not None)
                    if stops or scores is None:
                        checkpoints.wait()
                        raise preemption.after(step)
                    line.restart(step)
        return state

    def scores(self, state: State, monitor: Evaluator, embed: Embed) -> dict[str, float]:
        """The primary metric's scores on the monitored split, to log."""
        outcome = monitor.evaluate(embed, _local(state.variables))
        row = outcome["rows"][outcome["primary"]]
        shown = f"rank-1 {_percent(row['rank1'])}, mAP {_percent(row['mAP'])}"
        print(f"step {state.step}, {monitor.split} split: {shown}", flush=True)
        return {f"{monitor.split}/{name}": row[name]["mean"] for name in results.SCORES}

    def _files_of(self, batch: Batch) -> list[str]:
        paths = self.sampler.image_set.paths
        return [paths[i] for samples in batch.values() for i in samples["index"].ravel()]


def _rank(scores: Mapping[str, float] | None, monitor: Evaluator | None) -> float | None:
    """What ranks a checkpoint. Test identities never choose one."""
    return scores[f"{monitor.split}/mAP"] if scores and monitor.split != "test" else None


def _monitor(config: ConfigDict, builder: datasets.Builder, test: Evaluator) -> Evaluator:
    """What the evaluations while training look at: the configured split, or the test split if there is none."""
    split = config.eval.monitor_split
    if split == "test":
        return test
    if split not in builder.info.splits:
        print(f"no {split} split: watching the test split instead, which chooses no checkpoint", flush=True)
        return test
    return Evaluator(datasets.load(builder, (split,)), config, split=split)


def _local(variables: Any) -> Any:
    """Variables of a training state for inference, which runs on the devices of this process."""
    return parallel.replicate(jax.device_get(variables))


def _measure_baselines(loop: _Loop, state: State, test: Evaluator, embed: Embed, workdir: pathlib.Path) -> None:
    """What no training reaches, and what loaded weights reach as they are."""
    untrained = {}
    if loop.config.model.pretrained != "none":
        frozen = parallel.replicate(_settled(loop, state))
        untrained["pretrained"] = test.embed(embed, frozen)[loop.config.eval.feature]
    evaluate.measure_baselines(test, workdir, **untrained)


def _settled(loop: _Loop, state: State) -> Any:
    """The variables with the given parameters and BatchNorm statistics of the training images.

    Statistics that came with the weights may be of another domain, and make the frozen network look worse than it is.
    """
    variables = state.variables
    for batch in loop.batches(0, _SETTLING_STEPS):
        updated, _ = loop.update(parallel.replicate(state.replace(variables=variables)), parallel.shard(batch))
        variables = {**variables, "batch_stats": jax.device_get(updated.variables["batch_stats"])}
    return variables


def _percent(score: Mapping[str, float]) -> str:
    return f"{100 * score['mean']:.1f} %"
