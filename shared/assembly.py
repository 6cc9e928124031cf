"""Makes the real parts of a process from its settings: the only place that knows which kind stands behind a face."""

import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.blobs import Blobs
from shared.blobs.elsewhere import places_in
from shared.blobs.open import BucketPlace, open_blobs
from shared.bus.face import Bus
from shared.bus.memory import MemoryBus
from shared.clock import Clock, SystemClock, SystemIds, in_a_thread
from shared.identity.directory import Directory
from shared.identity.root import RootKeys
from shared.identity.tokens import Terms, TokenVerifier
from shared.journal import Journal
from shared.journal.disk import DiskJournal
from shared.journal.memory import MemoryJournal
from shared.lifetime import Check, Real, Stop
from shared.outbox import Outbox
from shared.parts import Parts
from shared.relay import Relay
from shared.settings import Settings, SettingsWrong, secret_or_nothing
from shared.state.face import State
from shared.state.keys import Keys
from shared.state.memory import MemoryState
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from shared.telemetry.listening import Listening
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Traces, Unexported

if TYPE_CHECKING:
    from shared.bus.connection import Address

Loop = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def assembled(service: str, settings: Settings, environment: Mapping[str, str]) -> AsyncGenerator[Real]:
    """The parts of a process; connections are closed at the end, in the opposite order. Raises SettingsWrong."""
    async with AsyncExitStack() as open_things:
        made = _Assembly(service, settings, open_things)
        yield made.real(environment)


class _Assembly:
    """What is made on the way to the parts."""

    def __init__(self, service: str, settings: Settings, open_things: AsyncExitStack) -> None:
        self._service = service
        self._settings = settings
        self._open = open_things
        self._clock: Clock = SystemClock()
        self._ids = SystemIds()
        self._loops: dict[str, Loop] = {}
        self._checks: list[Check] = []
        self._stop = Stop()

    def real(self, environment: Mapping[str, str]) -> Real:
        """All parts, wired."""
        settings, service = self._settings, self._service
        metrics = Metrics(service)
        traces = self._traces()
        self._open.callback(traces.close)
        state, blobs = self._state(), self._blobs()
        bus = Listening(self._bus(metrics), self._clock, metrics, traces)
        journal = self._journal(bus)
        directory = Directory(self._clock.now)
        directory.follow(bus)
        self._relay(state, bus, metrics)
        parts = Parts(
            service=service,
            settings=settings,
            environment=environment,
            clock=self._clock,
            ids=self._ids,
            cpu=in_a_thread,
            state=state,
            keys=Keys(service),
            bus=bus,
            blobs=blobs,
            outbox=Outbox(service, self._clock),
            journal=journal,
            directory=directory,
            verifier=TokenVerifier(directory, _root(settings.root_key_file), Terms.of(settings), self._clock.now),
            metrics=metrics,
            traces=traces,
            elsewhere=self._elsewhere(),
        )
        return Real(parts, self._stop, bus.views, self._loops, tuple(self._checks))

    def _traces(self) -> Traces:
        if not self._settings.otlp_endpoint:
            return Unexported(self._ids)
        # Imported here: who has no collector pays neither the time nor the memory of these libraries.
        from shared.telemetry.exported import Exported  # noqa: PLC0415

        return Exported.to(self._service, self._settings.otlp_endpoint)

    def _state(self) -> State:
        if not self._settings.state_url:
            return MemoryState(self._service, self._clock.monotonic, lane_limit=self._settings.lane_entries)
        state = ValkeyState.connect(self._service, _valkey(self._settings), self._clock)
        self._open.push_async_callback(state.close)
        self._checks.append(state.refuse_unsafe)
        return state

    def _blobs(self) -> Any:
        bucket = open_blobs(_bucket(self._settings), self._clock)
        self._open.push_async_callback(bucket.close)
        return bucket

    def _elsewhere(self) -> dict[str, Blobs]:
        buckets = {
            name: open_blobs(place, self._clock) for name, place in places_in(self._settings.buckets_file).items()
        }
        for bucket in buckets.values():
            self._open.push_async_callback(bucket.close)
        return dict(buckets)

    def _bus(self, metrics: Metrics) -> Bus:
        settings = self._settings
        if not settings.bus_url:
            return MemoryBus(self._service, self._clock, location=settings.one_of_several)
        # Imported here: who tries a service alone waits for none of the bus's libraries.
        from shared.bus.jetstream import JetStreamBus, Options  # noqa: PLC0415

        options = Options(
            snapshots=self._folder("views"),
            accept_loss=settings.bus_accept_loss,
            over=lambda reason: self._stop.tell(f"bus over: {reason}", failed=True),
            registry=metrics.registry,
            location=settings.one_of_several,
        )
        return JetStreamBus(self._service, bus_address(settings), self._clock, options)

    def _journal(self, bus: Bus) -> Journal:
        if not self._settings.bus_url:
            memory = MemoryJournal(f"{self._service}/{self._settings.replica}", bus.publisher, self._clock)
            self._loops["journal"] = memory.run
            return memory
        disk = DiskJournal(
            self._folder("journal"), self._service, bus.publisher, clock=self._clock, ids=self._ids, cpu=in_a_thread
        )
        self._loops["journal"] = disk.run
        return disk

    def _folder(self, kind: str) -> Path:
        """A folder of this replica alone."""
        folder = self._settings.data / kind / self._service / self._settings.replica
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _relay(self, state: State, bus: Bus, metrics: Metrics) -> None:
        relay = Relay(state, bus.publisher, self._clock, self._ids)
        self._loops["relay"] = relay.run
        metrics.watch(
            "outbox_oldest_seconds", "Seconds since the slowest outbox lane got rid of something.", relay.oldest
        )


def _valkey(settings: Settings) -> ValkeySettings:
    return ValkeySettings(
        url=settings.state_url.replace("valkey://", "redis://", 1).replace("valkeys://", "rediss://", 1),
        username=settings.state_user,
        password=secret_or_nothing(settings.state_password_file),
        lane_limit=settings.lane_entries,
        replicas=settings.state_replicas,
        accept_loss=settings.state_accept_loss,
    )


def bus_address(settings: Settings) -> "Address":
    """Where the bus is and as whom this process speaks to it."""
    from shared.bus.connection import Address  # noqa: PLC0415 - as above

    tls = ssl.create_default_context(cafile=settings.bus_ca_file) if settings.bus_ca_file else None
    return Address(
        servers=tuple(url.strip() for url in settings.bus_url.split(",") if url.strip()),
        user=settings.bus_user,
        password=secret_or_nothing(settings.bus_password_file),
        tls=tls,
        monitor=settings.bus_monitor,
    )


def _bucket(settings: Settings) -> BucketPlace:
    return BucketPlace(
        kind=settings.bucket,
        directory=settings.bucket_directory,
        endpoint=settings.bucket_endpoint,
        bucket=settings.bucket_name,
        access_key=settings.bucket_access_key,
        secret_key=secret_or_nothing(settings.bucket_secret_key_file),
        region=settings.bucket_region,
        secure=settings.bucket_secure,
        public_endpoint=settings.bucket_public_endpoint,
    )


def _root(path: Path | None) -> RootKeys:
    """The pinned root keys; none, and then no token counts, where none are named."""
    if path is None:
        return RootKeys(())
    try:
        return RootKeys.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsWrong(f"ENTREPOT_ROOT_KEY_FILE: {path} holds no public root key: {error}") from error
