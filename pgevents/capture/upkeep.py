"""Sees to it that what a hub wants is captured: when it starts, and as long as it runs."""

import logging
from typing import Any, Dict, List, Optional, Set, Tuple

from ..database.backend import Backend
from ..database.relation import Relation
from ..database.spec import Specs, uninstalled
from ..database.there import There
from ..delivery.topics import Topics
from ..errors import NotInstalled, UsageError
from ..listening.listener import Listener
from ..listening.registry import Registry
from ..listening.target import Target
from ..reporter import Reporter
from . import plan
from .wanted import Wanted

logger = logging.getLogger("pgevents")


class Upkeep:
    """Installs what one hub wants, or finds it missing; notices what was lost or altered."""

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        topics: Topics,
        service: str,
        may_install: bool,
        reporter: Reporter,
    ) -> None:
        self.specs = Wanted(backend, registry)
        self._backend = backend
        self._registry = registry
        self._topics = topics
        self._service = service
        self._may_install = may_install
        self._reporter = reporter
        self._gone: Set[str] = set()  # tables that were reported as gone
        self._unfit: Set[str] = set()  # what the last look found to ask for columns that are gone
        self._uninstalled: Set[str] = set()  # topics that the last look found so
        #: Somebody starts the hub: what its service has uninstalled is captured again.
        self.asked = True
        self._known: Dict[str, Relation] = {}  # the tables as we saw them last

    def begin(self, deadline: Optional[float] = None) -> None:
        """See to all that is wanted now, and learn what the tables look like.

        Tries until ``deadline`` (``time.monotonic()``), if there is one. Raises what
        Hub.start() does.
        """
        there = self._look(types=True)
        wanted = self.specs.all(there)
        lacking = plan.lacking(there, wanted)
        if self.asked:
            kept, self._uninstalled = wanted, set()
        else:
            kept = self._without_uninstalled(there, wanted)
        there = self._see_to(there, kept, self._may_install, deadline, asked=self.asked)
        self._warn_of(there, plan.missing(there, kept))
        self.asked = False
        missed = lacking + self._note_uninstalled(wanted, kept)
        if missed:
            self._reporter.gap("; ".join(missed))
        self._known = {relation.topic: relation for relation, _ in wanted}
        for listener, _ in self._registry.all():
            target = listener.target
            if target is not None and there.has_looked_for(target):
                self._topics.learn(target, there.find(target))
        healed = self._backend.heal()
        if healed:
            self._reporter.gap(f"{healed} rows or groups come from another cluster")

    def install(self, owner: Optional[str] = None) -> None:
        """Install what is wanted, because somebody asks for it."""
        there = self._look(types=True)
        self._see_to(there, self.specs.all(there), True, owner=owner)

    def install_sql(self, role: Optional[str], owner: Optional[str]) -> str:
        """Return as SQL what would be done on a fresh database."""
        wanted = self.specs.all(self._look(types=True))
        return self._backend.install_sql(self._service, wanted, role, owner)

    def installed(self) -> List[Dict[str, Any]]:
        """Return what is captured for all services: a dict for each table."""
        return plan.installed(self._backend.look(everything=True))

    def add(self, listener: Listener, target: Target, moments: Tuple[str, ...]) -> None:
        """See to what one more listener wants."""
        there = self._backend.look([target], types=True)
        relation = there.find(target)
        wanted = self.specs.one(there, listener, moments, relation)
        self._see_to(there, wanted, self._may_install)
        self._topics.learn(target, relation)

    def check(self) -> None:
        """Bring triggers back that were lost: a migration may have created a table again."""
        unfit, self._unfit = self._unfit, set()
        there = self._look()
        wanted = self.specs.all(
            there,
            lambda target: self._find_again(there, target),
            lambda error: self._unfit.add(str(error)),
        )
        for sentence in sorted(self._unfit - unfit):
            logger.warning("%s", sentence)
        missing = plan.missing(there, wanted)
        kept = self._without_uninstalled(there, wanted) if missing else wanted
        # Table by table: one that is lost from now on is for the next call to report.
        lost = [one for one in kept if plan.missing(there, [one])] if missing else []
        unheard = plan.unheard(there, lost)
        # Another process may have brought the triggers back: we missed as much.
        missed = self._missed(wanted) + self._note_uninstalled(wanted, kept)
        if unheard or missed:
            self._reporter.gap("; ".join(missed + unheard))
        if lost:
            there = self._see_to(there, lost, self._may_install, asked=False)
        if missing:
            missing = plan.missing(there, there.again(kept))
        self._warn_of(there, missing)

    def _look(self, types: bool = False) -> There:
        return self._backend.look(self.specs.targets(), types=types)

    def _see_to(
        self,
        there: There,
        wanted: Specs,
        install: bool,
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
        asked: bool = True,
    ) -> There:
        """See to it that this is captured; return what is there then.

        Say what is captured although it was left out.
        """
        if install:
            if self._backend.install(self._service, wanted, there, deadline, owner, asked):
                there = self._look(types=True)
        else:
            unheard = plan.unheard(there, wanted)
            if unheard:
                raise NotInstalled("; ".join(unheard) + ". Let somebody with the rights install it")
        for sentence in self.specs.overruled(self._service, wanted, there):
            logger.warning("%s", sentence)
        return there

    def _warn_of(self, there: There, missing: List[str]) -> None:
        self._backend.warn_of(there)
        self._backend.warnings.set("capture", "; ".join(missing) or None)

    def _without_uninstalled(self, there: There, wanted: Specs) -> Specs:
        """Return what nobody has uninstalled: the rest is to stay so."""
        topics = {*uninstalled(self._service, wanted, there.specs)}
        return [one for one in wanted if one[0].topic not in topics]

    def _note_uninstalled(self, wanted: Specs, kept: Specs) -> List[str]:
        """Warn of what is not kept; say what was missed by it since the last call."""
        labels = {relation.topic: relation.label for relation, _ in wanted}
        captured = {relation.topic for relation, _ in kept}
        former, self._uninstalled = self._uninstalled, {*labels} - captured
        lost, back = self._uninstalled - former, former & captured

        def named(topics: Set[str]) -> str:
            return ", ".join(labels[topic] for topic in sorted(topics))

        sentence = (
            f"the service {self._service!r} was uninstalled, so this hub leaves"
            f" {named(self._uninstalled)} uncaptured until somebody installs again:"
            " `pgevents install`, hub.install(), or a hub that starts"
        )
        if lost:
            self._backend.warnings.set("uninstalled", None)  # more of it is logged again
        self._backend.warnings.set("uninstalled", sentence if self._uninstalled else None)
        missed = []
        if lost:
            missed.append(
                f"the service {self._service!r} was uninstalled: {named(lost)} is not captured"
            )
        if back:
            missed.append(f"{named(back)} was uninstalled for a while, and is captured again")
        return missed

    def _missed(self, wanted: Specs) -> List[str]:
        """Say what the tables that changed since the last call did not report."""
        missed: List[str] = []
        for relation, _ in wanted:
            former = self._known.get(relation.topic, relation)
            missed += self._backend.missed_between(former, relation)
            self._known[relation.topic] = relation
        return missed

    def _find_again(self, there: There, target: Target) -> Optional[Relation]:
        """Look a table up that was there; tell once if it is gone."""
        try:
            relation = there.find(target)
        except UsageError as error:
            if target.key not in self._gone:
                self._gone.add(target.key)
                self._reporter.gap(f"what was listened to is gone: {error}")
            return None
        self._gone.discard(target.key)
        return relation
