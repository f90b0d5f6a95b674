"""What a plugin of Postern in Python needs beside its policy.

Needs Debian's python3-grpcio and python3-protobuf. A policy is a class with
methods named after stages; serve() does the rest:

    import postern_plugin as postern

    class Greeter(postern.Policy):
        name = "greeter"
        about = "Refuses clients without a name."
        settings = [postern.setting("text", "string", "Say who you are", doc="the reply")]

        def helo(self, event):
            if "." not in event.session.helo:
                return postern.reject("5.5.2", self.text)

    postern.serve(Greeter())

The event and the decision are those of policy.proto, whose comments say what the
fields mean; docs/plugins.md has the protocol's story.
"""

import concurrent.futures
import json
import logging
import os
import sys
import threading

import grpc

import policy_pb2 as pb

SERVICE = "postern.hooks.v1."
COOKIE = "postern.hooks.v1"
MAX_EVENT = 4 << 20
STAGES = (
    "connect helo tls auth mail rcpt data headers message queue queued command deny "
    "disconnect route attempt delivered deferred bounced dsn tick load unload"
).split()
WITH_MESSAGE = ("message", "queue", "queued")

NONE, HEADERS, PREFIX = pb.ACCESS_NONE, pb.ACCESS_HEADERS, pb.ACCESS_PREFIX
WHOLE, FILE, STREAM = pb.ACCESS_WHOLE, pb.ACCESS_FILE, pb.ACCESS_STREAM

log = logging.getLogger("plugin")


class Policy:
    """A policy. Its methods that are named after stages are asked there, with the
    event, many at a time in threads of their own; with access STREAM those of
    stages message, queue and queued get an iterator of bytes too. They return a
    decision, or None to pass; an exception is a failure of the policy."""

    name = ""
    version = "1"
    about = ""
    access = NONE
    prefix_bytes = 0
    on_failure = ""  # "defer", "pass", or the server's default
    immune = ()  # "relaying", "authenticated"
    timeout_ms = 0
    every_ms = 0  # with a method tick
    settings = ()  # made by setting(); each becomes an attribute

    host = None  # the server: memory and metrics, a Host

    def prepare(self):
        """Called once, after the settings are set. Returns what is wrong with them,
        as a list of (key, text)."""
        return []

    def healthy(self):
        """Called by the server's health check. Returns what is wrong, or ""."""
        return ""


def setting(name, kind, default=None, doc="", of="", choices=()):
    """A key of the [[policy]] entry. Without a default it must be given. Kinds are
    those of policy.proto; durations come as seconds, sizes as bytes."""
    x = pb.Setting(name=name, type=kind, of=of, choices=choices, doc=doc)
    if default is not None:
        x.default.CopyFrom(value(default))
    return x


# Plain values: None, str, bool, numbers, lists, and dicts with str keys.


def value(v):
    """The Value of a plain value."""
    x = pb.Value()
    if isinstance(v, str):
        x.text = v
    elif isinstance(v, bool):
        x.boolean = v
    elif isinstance(v, (int, float)):
        x.number = v
    elif isinstance(v, (list, tuple)):
        x.list.SetInParent()
        x.list.values.extend(value(one) for one in v)
    elif isinstance(v, dict):
        x.map.SetInParent()
        for key, one in v.items():
            x.map.values[key].CopyFrom(value(one))
    elif v is not None:
        raise TypeError(f"{type(v).__name__} is no plain value")
    return x


def plain(x):
    """The plain value of a Value; numbers are float."""
    kind = x.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list":
        return [plain(one) for one in x.list.values]
    if kind == "map":
        return {key: plain(one) for key, one in x.map.values.items()}
    return getattr(x, kind)


# Decisions.


def decide(verb="", enhanced="", text="", code=0, reason="", edits=(), **more):
    """A decision: a verb ("" passes), a reply, and edits made by edit()."""
    d = pb.Decision(verb=verb, reason=reason, edits=edits, **more)
    if enhanced or text or code:
        d.reply.CopyFrom(pb.Reply(code=code, enhanced=enhanced, text=text))
    return d


def reject(enhanced, text, **more):
    """Refuses for good."""
    return decide("reject", enhanced, text, **more)


def defer(enhanced, text, **more):
    """Refuses for now."""
    return decide("defer", enhanced, text, **more)


def edit(kind, name="", value_="", n=0, number=0.0, any_=None, rcpt=""):
    """One change; message Edit in policy.proto lists the kinds and their fields."""
    x = pb.Edit(kind=kind, name=name, value=value_, n=n, number=number, rcpt=rcpt)
    if any_ is not None:
        x.any.CopyFrom(value(any_))
    return x


def score(name, points, why=""):
    """An edit that adds points."""
    return edit("score", name=name, number=points, value_=why)


class Host:
    """The server: the memory that policies share, and metrics. Keys are tuples of
    texts; ("seen", ip) is a script's store.get{"seen", ip}. Errors are
    grpc.RpcError."""

    def __init__(self, path):
        options = [("grpc.max_receive_message_length", MAX_EVENT), ("grpc.max_send_message_length", MAX_EVENT)]
        self._channel = grpc.insecure_channel("unix:" + path, options=options)
        self._calls = {
            name: self._channel.unary_unary(
                f"/{SERVICE}Host/{name}",
                request_serializer=lambda x: x.SerializeToString(),
                response_deserializer=reply.FromString,
            )
            for name, reply in (
                ("Get", pb.StoreValue), ("Put", pb.Done), ("Delete", pb.Done), ("Incr", pb.IncrReply),
                ("Take", pb.TakeReply), ("Swap", pb.SwapReply), ("Measure", pb.Done),
            )
        }

    def _call(self, name, request):
        return self._calls[name](request, timeout=10)

    def get(self, key):
        """The value of an entry, or None."""
        x = self._call("Get", pb.StoreKey(parts=key))
        return plain(x.value) if x.found else None

    def put(self, key, v, ttl=0):
        """Sets an entry for ttl seconds; 0: for ever."""
        self._call("Put", pb.PutRequest(key=pb.StoreKey(parts=key), value=value(v), ttl_ms=int(ttl * 1000)))

    def delete(self, key):
        """Removes an entry."""
        self._call("Delete", pb.StoreKey(parts=key))

    def incr(self, key, by=1, ttl=0):
        """Adds to a whole number and returns the sum; ttl counts from its creation."""
        return self._call("Incr", pb.IncrRequest(key=pb.StoreKey(parts=key), by=by, ttl_ms=int(ttl * 1000))).sum

    def take(self, key, tokens, capacity, per):
        """Takes tokens from a bucket: (True, 0), or (False, seconds to wait)."""
        x = self._call("Take", pb.TakeRequest(key=pb.StoreKey(parts=key), tokens=tokens, capacity=capacity, per_ms=int(per * 1000)))
        return x.allowed, x.retry_ms / 1000

    def swap(self, key, old, new, ttl=0):
        """Sets an entry to new if it is old (None: there is none), and tells whether it did."""
        return self._call("Swap", pb.SwapRequest(key=pb.StoreKey(parts=key), old=value(old), new=value(new), ttl_ms=int(ttl * 1000))).swapped

    def count(self, name, labels=None, n=1):
        """Adds to the counter postern_script_NAME_total of the server's /metrics page."""
        self._call("Measure", pb.Measures(list=[pb.Measure(name=name, labels=labels or {}, value=n)]))

    def observe(self, name, v, labels=None):
        """Adds a value to the histogram postern_script_NAME."""
        self._call("Measure", pb.Measures(list=[pb.Measure(name=name, labels=labels or {}, value=v, histogram=True)]))


class _Service:
    """The calls of service Policy."""

    def __init__(self, policy):
        self.policy = policy
        self.stages = [at for at in STAGES if callable(getattr(policy, at, None))]

    def describe(self, request, context):
        p = self.policy
        return pb.Description(
            name=p.name, version=p.version, about=p.about, stages=self.stages, settings=p.settings, access=p.access,
            prefix_bytes=p.prefix_bytes, on_failure=p.on_failure, immune=p.immune, timeout_ms=p.timeout_ms,
            every_ms=p.every_ms, revision=2,
        )

    def configure(self, request, context):
        for key, x in request.settings.items():
            setattr(self.policy, key, plain(x))
        return pb.ConfigureReply(problems=[pb.Problem(key=key, text=text) for key, text in self.policy.prepare()])

    def handle(self, event, context):
        return self.ask(event, context)

    def stream(self, parts, context):
        event = next(parts).event
        return self.ask(event, context, (part.body for part in parts))

    def ask(self, event, context, *body):
        try:
            if self.policy.access == STREAM and event.stage in WITH_MESSAGE and not body:
                body = (iter(()),)
            return getattr(self.policy, event.stage)(event, *body) or pb.Decision()
        except Exception as e:  # the policy's own failure, which the server treats as on_failure says
            log.exception("stage %s", event.stage)
            context.abort(grpc.StatusCode.UNKNOWN, f"{type(e).__name__}: {e}")

    def health(self, request, context):
        text = self.policy.healthy()
        return pb.HealthReply(ok=not text, text=text)

    def handlers(self):
        def unary(call, request):
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda x: x.SerializeToString())

        return grpc.method_handlers_generic_handler(SERVICE + "Policy", {
            "Describe": unary(self.describe, pb.DescribeRequest),
            "Configure": unary(self.configure, pb.ConfigureRequest),
            "Handle": unary(self.handle, pb.Event),
            "Health": unary(self.health, pb.HealthRequest),
            "Stream": grpc.stream_unary_rpc_method_handler(self.stream, pb.Part.FromString, lambda x: x.SerializeToString()),
        })


class _Records(logging.Formatter):
    """Lines that the server's log takes as records."""

    def format(self, record):
        line = {"@level": {"CRITICAL": "error", "WARNING": "warn"}.get(record.levelname, record.levelname.lower()), "@message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        line.update(getattr(record, "keys", {}))
        return json.dumps(line, default=str)


def serve(policy, calls=16):
    """Answers the server until it ends this process; so many calls at a time."""
    if os.environ.get("POSTERN_PLUGIN") != COOKIE:
        sys.exit(f"{policy.name}: {policy.about}\nThis is a plugin of Postern: name it as use = in a [[policy]] of postern.toml.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Records())
    logging.basicConfig(level=logging.DEBUG if os.environ.get("POSTERN_LOG_LEVEL") == "debug" else logging.INFO, handlers=[handler])
    if "POSTERN_HOST_SOCKET" in os.environ:
        policy.host = Host(os.environ["POSTERN_HOST_SOCKET"])
    over = threading.Event()
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(calls),
        options=[("grpc.max_receive_message_length", MAX_EVENT), ("grpc.so_reuseport", 0)],
    )

    def shut_down(request, context):
        over.set()
        return b""

    end = grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shut_down)})
    server.add_generic_rpc_handlers((_Service(policy).handlers(), end))
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "socket")
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|1|unix|{path}|grpc", flush=True)
    over.wait()
    server.stop(1).wait()
