"""The nemesis: it carries out a plan in real time, and tells the story."""

import time
from dataclasses import dataclass
from random import Random

from chaos.faults import Course, Fault, World
from chaos.work import now_us

TURN_S = 0.05
HEAL_S = 120.0  # for what is under way to come to its end


@dataclass(slots=True)
class _UnderWay:
    """A fault that has begun. `due_s`: when it wants to go on."""

    fault: Fault
    course: Course
    due_s: float


class Nemesis:
    """Faults, one after the other and beside each other. Call `turn` again and again."""

    def __init__(self, world: World, faults: list[Fault], begun_s: float) -> None:
        self._world = world
        self._waiting = list(faults)
        self._under_way: list[_UnderWay] = []
        self._begun_s = begun_s
        self._told = world.note

    @property
    def over(self) -> bool:
        """Whether all faults have been, and are healed."""
        return not self._waiting and not self._under_way

    def turn(self) -> None:
        """Begin what is due, go on with what is under way."""
        now_s = time.monotonic()
        busy = {each.fault.kind.area for each in self._under_way}
        for fault in list(self._waiting):
            if now_s < self._begun_s + fault.at_s:
                break
            if fault.kind.area not in busy:
                busy.add(fault.kind.area)
                self._waiting.remove(fault)
                self._begin(fault, now_s)
        for each in list(self._under_way):
            if time.monotonic() >= each.due_s:
                self._step(each)

    def _begin(self, fault: Fault, now_s: float) -> None:
        fault.begun_us = now_us()
        course = fault.kind.course(self._world, Random(fault.seed), fault.for_s)
        self._under_way.append(_UnderWay(fault, course, now_s))

    def _step(self, each: _UnderWay) -> None:
        def note(text: str) -> None:
            each.fault.story.append(text)
            self._told(f"{each.fault.kind.name}: {text}")

        self._world.note = note
        try:
            each.due_s = time.monotonic() + next(each.course)
        except StopIteration:
            each.fault.healed_us = now_us()
            self._under_way.remove(each)
        finally:
            self._world.note = self._told

    def give_up(self) -> None:
        """Begin nothing any more."""
        self._waiting.clear()
