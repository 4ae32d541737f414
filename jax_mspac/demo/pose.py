"""How a person stands or walks, and where the joints are."""

import dataclasses

import numpy as np

from jax_mspac.demo.appearance import Body

SIDES = (1, -1)  # left, right


@dataclasses.dataclass(frozen=True)
class Pose:
    """One moment of one person; angles in radians, of the left and the right limb where there are two.

    The yaw, the direction of the body, is 0 toward the camera; pi turns the back, pi / 2 walks to the right. `legs` and
    `arms` are the swing of thighs and upper arms, forward positive, `knees` and `elbows` their bend, `spread` the angle
    between arms and trunk, seen from the front, and `lean` the forward inclination of the trunk.
    """

    yaw: float
    legs: tuple[float, float]
    knees: tuple[float, float]
    arms: tuple[float, float]
    elbows: tuple[float, float]
    spread: float
    lean: float


def sample_pose(rng: np.random.Generator, *, yaw: float) -> Pose:
    """A random moment of a walk (or of standing) of a body that is turned by `yaw`."""
    phase = rng.uniform(0.0, 2.0 * np.pi)
    stride = rng.uniform(0.03, 0.5)
    swing = stride * rng.uniform(0.5, 1.3)
    bend = rng.uniform(0.05, 0.6)
    forward, rest = np.sin(phase), np.cos(phase)
    arms, elbows = [-swing * forward, swing * forward], [bend, bend]
    if rng.random() < 0.3:  # one hand carries something, or holds a phone
        side = rng.integers(2)
        arms[side], elbows[side] = rng.uniform(-0.2, 0.5), rng.uniform(0.9, 2.2)
    return Pose(
        yaw=yaw,
        legs=(stride * forward, -stride * forward),
        knees=(1.3 * stride * max(rest, 0.0) + 0.05, 1.3 * stride * max(-rest, 0.0) + 0.05),
        arms=(arms[0], arms[1]),
        elbows=(elbows[0], elbows[1]),
        spread=rng.uniform(0.03, 0.25),
        lean=rng.uniform(-0.03, 0.12),
    )


def skeleton(body: Body, pose: Pose) -> dict[str, np.ndarray]:
    """Joints in the frame of the person: x to the left, y up from the ground, z forward, in average body heights.

    Returns:
      joint name -> float64 [3]; names of paired joints end in "+1" (left) and "-1" (right).
    """
    hip_height = 0.515 * body.legs * body.height
    upper = 0.985 * body.height - hip_height - 0.15 * body.head
    joints = {"hip": np.array([0.0, hip_height, 0.0])}
    lean = np.array([0.0, np.cos(pose.lean), np.sin(pose.lean)])
    joints["neck"] = joints["hip"] + upper * lean
    joints["head"] = joints["neck"] + 0.083 * body.head * lean
    thigh, shin = 0.49 * hip_height, 0.43 * hip_height
    arm = 0.165 * body.height
    for index, side in enumerate(SIDES):
        hip = joints["hip"] + [side * 0.055 * body.hips, 0.0, 0.0]
        knee = hip + thigh * _swung(pose.legs[index])
        ankle = knee + shin * _swung(pose.legs[index] - pose.knees[index])
        toe = ankle + [0.0, -0.02, 0.075]
        shoulder = joints["neck"] + [side * 0.094 * body.shoulders, -0.045, 0.0]
        outward = np.array([side * np.sin(pose.spread), 0.0, 0.0])
        elbow = shoulder + arm * (_swung(pose.arms[index]) + outward)
        wrist = elbow + 0.9 * arm * (_swung(pose.arms[index] + pose.elbows[index]) + 0.3 * outward)
        names = ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist")
        for name, joint in zip(names, (hip, knee, ankle, toe, shoulder, elbow, wrist), strict=True):
            joints[f"{name}{side:+d}"] = joint
    return joints


def _swung(angle: float) -> np.ndarray:
    """A unit vector that hangs down and is swung forward by `angle`."""
    return np.array([0.0, -np.cos(angle), np.sin(angle)])
