"""Bugs of consumer groups: events skipped, settled by others than their owner, out of order, or never dealt with."""

from planted.plant import Change, Plant
from rewind.group_claim import Claim
from rewind.group_member import Member
from rewind.group_report import Reporting
from rewind_node.coordinator import Coordinator
from rewind_node.group_desk import GroupDesk
from rewind_node.group_state import GroupState, _union
from rewind_node.groups import GroupTable

FORGOTTEN = """
- self.failed = {position: Failures(failures.attempts, True) for position, failures in self.failed.items()}
+ self.failed = {}
"""
PLANTS = (
    Plant(
        "group checkpoint before delivery",
        "a member settles what it hands out, not what was acknowledged",
        "what it had in hand when it died is skipped",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                Claim.take,
                """
                  self.in_hand += 1
                + self.reporting.settled(held.position, now_us, urgent=False)
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "two members fenced wrongly",
        "settlements are taken whatever claim they are made under",
        "an owner that was replaced settles what its successor has in hand",
        7,
        ("cuts", "clocks", "elections"),
        (
            Change(
                GroupState.settle,
                """
                - if settle.epoch != self.epoch or (self.owner == NO_MEMBER and not settle.release):
                + if False:
                """,
            ),
            Change(
                GroupDesk._is_over,
                """
                - return state.epoch > settle.epoch or (state.epoch == settle.epoch and released)
                + return False
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "claim not applied yet taken for over",
        "a new leader that has not applied a claim yet says that it is over",
        "its owner stops, though nobody else has claimed",
        7,
        ("crashes", "elections", "cuts", "stragglers"),
        (
            Change(
                GroupDesk._is_over,
                """
                - return state.epoch > settle.epoch or (state.epoch == settle.epoch and released)
                + return state.epoch != settle.epoch or released
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "attempts forgotten on takeover",
        "a new owner begins to count anew",
        "an event that fails everywhere is delivered for ever",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                GroupState.claim,
                FORGOTTEN,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "release that tells nothing",
        "a member that gives a partition up does not tell what was settled since its last report",
        "what was acknowledged is delivered again, though nobody has failed",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                Member._settle,
                """
                  held.releasing = held.lost = True
                + report = type(report)([], [], [], [])
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "claim trusted beyond its lease",
        "a member hands out, however long it has heard nothing of the leader",
        "after a pause two members work on the same streams",
        7,
        ("everything", "cuts", "lossy"),
        (
            Change(
                Claim._is_held_back,
                """
                - if self.stop_by_us is not None or self.lost or now_us - self.confirmed_us >= LEASE_TRUST_US:
                + if self.stop_by_us is not None or self.lost:
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "streams not waited for",
        "a member hands out the next event of a stream while the one before is in hand",
        "events of one stream are dealt with in any order",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                Claim._enter,
                """
                - if len(lane) == 1:
                + if True:
                """,
            ),
            Change(
                Claim._close,
                """
                - first = lane.popleft()
                - assert first is held
                - if lane:
                -     self._begin(lane[0], now_us)
                - else:
                + lane.remove(held)
                + if not lane:
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "reset without an end of the claim",
        "a reset moves the checkpoint, and the owner keeps its claim",
        "it goes on where it is, and nothing is delivered anew",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                GroupState.reset,
                """
                - self.checkpoint, self.owner, self.epoch = checkpoint, NO_MEMBER, index
                + self.checkpoint = checkpoint
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "settlement answered before it is committed",
        "a leader says that a settlement is taken as soon as it has it",
        "it is lost with the leader, and delivered again though the owner lives",
        7,
        ("crashes", "cuts", "elections", "stragglers"),
        (
            Change(
                GroupDesk.settle,
                """
                  else:
                +     if known:
                +         self._answer(client, message, key, Outcome(), 0)
                      self._log(client, message, settle)
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "what stands in the log told as refused",
        "a deposed leader tells those whose requests it has logged to ask the new one, as if nothing was done",
        "the new leader commits them, and their senders believe that nothing was changed",
        4,
        ("crashes", "cuts", "elections", "stragglers"),
        (
            Change(
                GroupDesk.resign,
                """
                - for code, waiting in ((Code.OPEN, logged), (Code.NOT_LEADER, self._gathered)):
                + for code, waiting in ((Code.NOT_LEADER, logged), (Code.NOT_LEADER, self._gathered)):
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "checkpoint at what is settled last",
        "the checkpoint passes over what is not settled",
        "events in hand are skipped when their member dies",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                _union,
                """
                - if first <= checkpoint + 1:
                + if True:
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "groups left out of checkpoints",
        "the states of groups are kept in memory alone",
        "a node that starts anew knows only what its log holds beyond the last checkpoint",
        1,
        ("everything", "crashes", "disks"),
        (
            Change(
                GroupTable.take_rows,
                """
                - return put, [key for key in sorted(changed) if key not in self._states]
                + return [], [key for key in sorted(changed) if key not in self._states]
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "report without an answer forgotten",
        "what was told in a report that got no answer is not told again",
        "the checkpoint stays behind for good, as long as the owner lives",
        7,
        ("everything", "crashes", "cuts", "lossy"),
        (
            Change(
                Reporting.put_back,
                """
                - for first, last in report.settled:
                -     self._settled.add(first, last)
                + pass
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "dead members not forgotten",
        "a coordinator counts members that it has long not heard of",
        "their partitions are nobody's",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                Coordinator._living,
                """
                - return {member: each for member, each in members.items() if now_us - each.heard_us < MEMBER_EXPIRY_US}
                + return dict(members)
                """,
            ),
        ),
        in_groups=True,
    ),
    Plant(
        "filtered events left unsettled",
        "a member does not settle what its filter takes out",
        "the checkpoint stays behind, and the lag never ends",
        7,
        ("everything", "calm", "crashes", "cuts"),
        (
            Change(
                Claim._pass_over,
                """
                - self.reporting.filtered(self._scanned + 1, through)
                + pass
                """,
            ),
        ),
        in_groups=True,
    ),
)
