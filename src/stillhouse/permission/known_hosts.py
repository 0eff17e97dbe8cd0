"""Hosts by which models are reached: whose, through which channel, and whose terms bind. Pure, but for the list beside this.

Covers: ports, case, trailing dots, escapes and the forms of letters and dots that IDNA takes for the same host (UTS 46); every
host below one that is known. Does not cover: a host of one's own that passes calls on, nor an address without a name.
"""

import functools
import ipaddress
import re
import socket
import tomllib
import unicodedata
from collections.abc import Callable
from importlib import resources
from urllib.parse import unquote, urlsplit

import idna
import msgspec

from stillhouse.nouns import Channel, Teacher, TeacherKind
from stillhouse.permission.known_names import bare_model, fold, fold_lab
from stillhouse.permission.terms_registry import document_id, shipped


class KnownHost(msgspec.Struct, frozen=True):
    """A host and all below it: through it come models of ``lab`` ("" = of many labs)."""

    host: str
    channel: Channel
    lab: str = ""
    services: tuple[str, ...] = ()


class _Hosts(msgspec.Struct, frozen=True):
    host: list[KnownHost]
    about_apps: frozenset[str]
    owner: dict[str, str]


# The document of a service whose texts nobody has read, and what stands in the place of a service where there is none.
UNREAD = "Terms of Service"
USE_POLICY = "Acceptable Use Policy"
# Parts of many addresses, and nobody's name.
_IN_ANY_ADDRESS = frozenset(
    (
        "ai",
        "api",
        "app",
        "cloud",
        "com",
        "dev",
        "endpoints",
        "gateway",
        "inference",
        "io",
        "ml",
        "models",
        "net",
        "runtime",
        "us",
        "www",
    )
)
_PORTS = {"http": 80, "https": 443}
NO_SERVICES = ("licence", "organisation")
OFFICIAL_URLS = {
    TeacherKind.OPENAI: "https://api.openai.com/v1",
    TeacherKind.ANTHROPIC: "https://api.anthropic.com",
}


@functools.cache
def _hosts() -> _Hosts:
    text = resources.files(__package__).joinpath("known_hosts.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Hosts)


def address_of(teacher: Teacher) -> str:
    """Where a teacher is asked: its own address, else the lab's official one; empty for what is on this machine."""
    return teacher.base_url or OFFICIAL_URLS.get(teacher.kind, "")


def host_of(address: str) -> str:
    """The host of an address, or of a host and port alone, as a resolver takes it; empty where there is none."""
    target = address if "://" in address else f"//{address}"
    try:
        host = unquote(urlsplit(target).hostname or "")
    except ValueError:  # brackets or letters that no address has
        return ""
    try:
        host = idna.uts46_remap(host, std3_rules=False)
    except idna.IDNAError:
        host = unicodedata.normalize("NFKC", host).casefold()
    return host.rstrip(".").lower()


def asked_at(teacher: Teacher) -> tuple[str, str] | None:
    """Where a teacher's model is asked, and which: whoever it is said to be of, that is one model. None on this machine."""
    address = address_of(teacher)
    if not address:
        return None
    try:
        parts = urlsplit(address)
        port = None if parts.port == _PORTS.get(parts.scheme.lower()) else parts.port
    except ValueError:  # no number that a port has, or no address at all
        port = None
    return f"{host_of(address)}:{port or ''}", bare_model(teacher.model)


def is_this_machine(address: str) -> bool:
    """Does an address lead to the machine itself?"""
    host = host_of(address)
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 0x7f000001: as a resolver takes them
        except (OSError, UnicodeEncodeError, ValueError):
            return host == "localhost" or host.endswith(".localhost")
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_unspecified


def known_host(address: str) -> KnownHost | None:
    """What is known of the host of an address."""
    return _known(host_of(address))


@functools.lru_cache(maxsize=4096)
def _known(host: str) -> KnownHost | None:
    return next((known for known in _hosts().host if _is_below(host, known.host)), None)


def _is_below(host: str, known: str) -> bool:
    """A ``*`` stands for a part of a label, so that nobody's own machine below a cloud's name is taken for its service."""
    if "*" in known:
        return re.fullmatch(r"(?:.+\.)?" + re.escape(known).replace(r"\*", "[^.]*"), host) is not None
    return host == known or host.endswith(f".{known}")


@functools.lru_cache(maxsize=4096)
def known_provider(name: str) -> KnownHost | None:
    """What is known of a provider by its name: how a host is called, or whose it is."""
    plain = _plain(name)
    # What people use by hand comes last: who names a lab or a service means its API.
    hosts = sorted(_hosts().host, key=lambda known: known.channel is Channel.PERSONAL)
    ways: tuple[Callable[[KnownHost], bool], ...] = (
        lambda known: plain in map(_plain, known.services),
        lambda known: plain == _plain(known.lab) or fold_lab(name) == known.lab != "",
        lambda known: plain == _plain(known.host) or plain in map(_plain, known.host.split(".")[-2:-1]),
        lambda known: plain in map(_plain, known.host.split(".")[:-1]),
    )
    found = (known for way in ways for known in hosts if way(known))
    return next(found, None) if plain and plain not in _IN_ANY_ADDRESS else None


def _plain(name: str) -> str:
    return "".join(letter for letter in fold(name) if letter.isalnum())


def documents_of(known: KnownHost) -> tuple[str, ...]:
    """The documents that bind the users of a host: a service's commercial terms where it has them, else all of its own.

    A service of which the registry has none is bound by one that nobody has read yet: its terms are unknown, by that name.
    """
    found: list[str] = []
    for service in known.services:
        documents = {version.document for version in shipped().versions if version.service == service}
        own = {"Commercial Terms"} & documents or documents or {UNREAD}
        found += sorted(document_id(service, document) for document in own)
    return tuple(document for document in found if document not in _hosts().about_apps)


@functools.cache
def _services_of_labs() -> frozenset[str]:
    elsewhere = (Channel.CLOUD, Channel.INTERMEDIARY)
    of_many = {
        service for known in _hosts().host if known.channel in elsewhere or not known.lab for service in known.services
    }
    return frozenset({service for known in _hosts().host if known.lab for service in known.services} - of_many)


def is_of_one_lab(service: str) -> bool:
    """Does one lab offer its own models by that service, and nobody else's?"""
    return service in _services_of_labs()


def is_agreement(terms: str) -> bool:
    """Can this be what an account was opened under? A use policy comes beside one, and some documents are about apps."""
    document = terms.partition("@")[0]
    return document not in _hosts().about_apps and not document.endswith(f"/{USE_POLICY}")


def owner_of(service: str) -> str:
    """The lab or company whose service that is, by the service's own name where no other is known; empty for licences."""
    return _hosts().owner.get(service, "" if service in NO_SERVICES else fold_lab(service))


@functools.lru_cache(maxsize=4096)
def offered_by(terms: tuple[str, ...], provider: str = "") -> frozenset[str]:
    """Who offers the services that something came through: owners of its documents and providers, and the services' names."""
    services = {term.partition("/")[0] for term in terms} - set(NO_SERVICES)
    named = [part.strip() for part in provider.split(">") if part.strip()]
    services |= {service for part in named if (known := known_provider(part)) for service in known.services}
    return frozenset(
        {name for service in services for name in (owner_of(service), fold_lab(service))} | set(map(fold_lab, named))
    ) - {""}


@functools.cache
def known_services() -> frozenset[str]:
    """The names of all services of known hosts, and of who offers them."""
    return frozenset(
        name for known in _hosts().host for service in known.services for name in (owner_of(service), fold_lab(service))
    )
