"""How the plugin comes, changes, and goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plughost import MCPPlugin

from plughost_testing._leaks import Inventory, check_leaks
from plughost_testing._subject import Stage, Subject

REGISTRATIONS = 100


async def leaves_nothing_behind(subject: Subject) -> None:
    """Registered, called and unregistered 100 times, it leaves no task, timer, descriptor, handler or reference."""
    async with subject.stage() as stage:
        await _come_and_go(subject, stage)  # what is loaded or opened once, is loaded now
        with _collecting_what_is_new():
            before = Inventory.take(timers=True)
            references = [await _come_and_go(subject, stage) for _ in range(REGISTRATIONS)]
            await stage.settle()
            await check_leaks(
                before, what=f"{subject.plugin_class.__name__}, registered {REGISTRATIONS} times,", timers=True
            )
            gc.collect()
        alive = [reference() for reference in references if reference() is not None]
        holders = {type(holder).__name__ for holder in gc.get_referrers(alive[0])} if alive else set()
        kept = f"{len(alive)} of {REGISTRATIONS} unregistered instances are still referred to, by {sorted(holders)}"
        assert not alive, kept


@contextmanager
def _collecting_what_is_new() -> Iterator[None]:
    """Collect the garbage; then let collections pass over what stands: all of a process takes long to look through."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _come_and_go(subject: Subject, stage: Stage) -> weakref.ref[MCPPlugin[Any]]:
    plugin = subject.make()
    await stage.host.register(plugin)
    await stage.echo()
    await stage.host.unregister(subject.name)
    return weakref.ref(plugin)


async def keeps_state_as_declared(subject: Subject) -> None:
    """A changed config is taken in place with the state kept, or refused with nothing changed, as it says."""
    plugin = subject.make()
    if subject.other_config is None:
        own = set(subject.plugin_class.config_type.model_fields)
        assert not own, f"other_config is None, but the config has the keys {sorted(own)}; give another valid one"
        return
    other = subject.plugin_class.config_type.model_validate(dict(subject.other_config))
    assert other != plugin.config, "other_config is the same as config"
    async with subject.stage(plugin) as stage:
        await stage.echo(1)
        before = subject.state_of(plugin) if subject.keeps_state else None
        config = plugin.config
        taken = await plugin.reconfigure(other)
        assert taken == subject.keeps_state, f"reconfigure() returned {taken}, and keeps_state is {subject.keeps_state}"
        if taken:
            plugin.config = other  # as the host does
            assert subject.state_of(plugin) == before, f"{before!r} became {subject.state_of(plugin)!r}"
        else:
            assert plugin.config is config, "reconfigure() returned False, but took the new config all the same"
        await stage.echo(2)
