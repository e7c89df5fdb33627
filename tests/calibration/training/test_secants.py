from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibration.training.secants import PIECES, STEPS, draw_pieces, piece_errors
from models.nets.samplers import secant_moment

FRAMES, KNOWN = 5, 2


class Led(nn.Module):
    """Knows the velocity of each piece: the sum of its moments, and notes what it is asked."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong = wrong
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, *, known: int) -> Tensor:
        self.asked.append((x, time))
        sums = torch.tensor([now + then for now, then in PIECES])
        velocity = (sums + self.wrong)[:, None, None].expand(-1, FRAMES, 32).clone()
        velocity[:, :known] = 100.0  # what is said of known frames does not count
        return velocity


def _states(n: int) -> Tensor:
    """Return paths x(t) = t^2: the secant from t to u is t + u."""
    moments = torch.arange(5) / 4
    return moments.square()[None, :, None, None].expand(n, 5, FRAMES, 32).clone()


def _teacher(x: Tensor, moment: Tensor) -> Tensor:
    """Return what the student says of a piece: the sum of its moments, known by its beginning."""
    return (2.0 * moment + 0.25)[:, None, None].expand(-1, FRAMES, 32)


ALL = (np.arange(len(PIECES)), np.zeros(len(PIECES), np.float32))


def test_pieces_are_those_of_one_two_and_four_steps() -> None:
    assert STEPS == (1, 2, 4)
    assert [then - now for now, then in PIECES] == [1.0, *[0.5] * 2, *[0.25] * 4]


def test_the_right_velocity_has_no_error_and_a_wrong_one_its_square() -> None:
    for wrong in (0.0, 0.5):
        student = Led(wrong)
        states = _states(len(PIECES))
        errors = piece_errors(student, _teacher, states, *ALL, {"known": KNOWN})
        torch.testing.assert_close(errors, torch.full((len(PIECES),), wrong**2))
        ((x, time),) = student.asked
        for row, moment, (now, then) in zip(x, time, PIECES, strict=True):
            assert float(moment) == secant_moment(now, then)
            assert bool((row == now**2).all())


def test_after_the_first_quarter_short_pieces_are_the_teachers_velocity() -> None:
    def other(x: Tensor, moment: Tensor) -> Tensor:
        return _teacher(x, moment) + 1.0

    errors = piece_errors(Led(), other, _states(len(PIECES)), *ALL, {"known": KNOWN})
    torch.testing.assert_close(errors, torch.tensor([0.0] * 4 + [1.0] * 3))


def test_inside_of_a_short_piece_the_teacher_is_asked_there() -> None:
    inside = np.where(ALL[0] >= 3, 0.5, 0.0).astype(np.float32)
    asked: list[tuple[Tensor, Tensor]] = []

    def teacher(x: Tensor, moment: Tensor) -> Tensor:
        asked.append((x, moment))
        return _teacher(x, moment)

    piece_errors(Led(), teacher, _states(len(PIECES)), ALL[0], inside, {"known": KNOWN})
    ((x, moment),) = asked
    now, then = PIECES[4]
    assert float(moment[4]) == pytest.approx(0.375)
    torch.testing.assert_close(x[4], torch.full((FRAMES, 32), (now**2 + then**2) / 2))


def test_every_piece_is_drawn_and_only_the_shortest_begin_inside() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_pieces(rng, 50) for _ in range(400)]
    for pieces, inside in drawn:
        short = pieces >= 3
        assert short.all() or not short.any()
        assert not inside[~short].any()
        assert inside.max() < 1.0
    pieces, inside = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    shares = np.bincount(pieces, minlength=len(PIECES)) / len(pieces)
    np.testing.assert_allclose(shares, [0.2, 0.15, 0.15, *[0.125] * 4], atol=0.04)
    assert float((inside[pieces >= 3] > 0).mean()) == pytest.approx(0.5, abs=0.02)
