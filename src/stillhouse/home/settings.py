"""Where a home is, and how it is set up."""

import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.engine.choice import EngineSettings
from stillhouse.errors import HomeError, UsageError
from stillhouse.permission.decide import Organisation
from stillhouse.vault.durability import Durability

# Every variable that Stillhouse itself reads (a teacher's key is read by the name that its registration gives).
ENVIRONMENT = {
    "STILLHOUSE_HOME": "the home folder, where --home is not given; else ./.stillhouse",
    "STILLHOUSE_LEDGER_URL": "the ledger's database, such as postgresql+psycopg://user@host/name; else SQLite in the home",
    "STILLHOUSE_IDENTITY": "the member of the roster as whom you sign; else the one whose key is found, else the home",
    "STILLHOUSE_KEYS": "the folder of your own private keys, never inside a home; else ~/.config/stillhouse/keys",
    "STILLHOUSE_KEY_PASSPHRASE": "the passphrase of your private key, where it has one",
    "STILLHOUSE_DURABILITY": "kill (default: safe against a process kill, at most 50 ms lost on power loss) or power",
}
CONFIG = "config.toml"
# More processes than this on one machine is a slip of the hand.
_MOST_WORKERS = 1024
DEFAULT_CONFIG = """\
# Facts about the organisation that runs this home; docs/settings.md explains them.
[organisation]
competes_with = ["*"]   # labs whose models yours competes with; "*" is all of them
commercial = true
# regions = ["EU"]      # where you work: some licences exclude some of them
# monthly_users = 0     # some duties begin with a number of users; 0: not known, and all of them count

# [budgets.projects]    # caps in USD over everything that is asked for a project, whatever the recipe allows
# example = "100.00"
# [budgets.teachers]    # the same for a teacher, that is, for its key
# some-teacher = "500.00"

# [copies.elsewhere]    # another place for the vault; docs/custody.md says what each kind resists
# place = "/mnt/elsewhere/vault"               # or "s3://bucket/prefix"
# domain = "the other team"                    # who administers it, where that is somebody else

# [custody]             # what may be deleted in a day: bytes that leave, and what they would cost to get back
# delete_bytes_per_day = 100_000_000_000
# delete_usd_per_day = "1000.00"
# key_stores = ["keys/erasure", "/mnt/vault-keys"]   # where the keys of sources lie that can be erased: two places at least
# custodian = "/srv/custody/team"              # set by `vault protect custodian`: who alone may write the vault

# [engine]              # where work on rows is done
# kind = "local"        # processes of this machine; "ray": a cluster, with the extra `ray`
# workers = 0           # processes; 0: as many as processors, 1: none but the command's own
# address = ""          # of the Ray cluster; "": what RAY_ADDRESS names, or one that Ray starts here

[log]
# checkpoints = "/mnt/elsewhere/checkpoints"   # a second place: what `doctor` can prove reaches to its newest file
"""


class Caps(msgspec.Struct, frozen=True):
    """What may be deleted in a day. A mistake of a day then costs no more than this; who needs more says so beforehand."""

    delete_bytes_per_day: int = 100_000_000_000
    delete_usd_per_day: Decimal = Decimal(1000)


class Copy(msgspec.Struct, frozen=True):
    """Another place for the vault: a folder, or ``s3://bucket/prefix``. ``domain`` says who administers it; "" is whoever does
    here.

    ``lock_days``: so long the store itself keeps each object, whoever asks (Object Lock); 0: it does not.
    """

    name: str
    place: str
    domain: str = ""
    endpoint: str = ""
    lock_days: int = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is set for a home."""

    home: Path
    ledger_url: str
    organisation: Organisation = Organisation()
    checkpoints: Path | None = None
    durability: Durability = Durability.KILL
    project_caps: dict[str, str] = {}
    teacher_caps: dict[str, str] = {}
    identity: str = ""
    keys: Path | None = None
    passphrase: str = ""
    custody: Caps = Caps()
    custodian: Path | None = None
    key_stores: tuple[Path, ...] = ()
    copies: tuple[Copy, ...] = ()
    engine: EngineSettings = EngineSettings()

    @property
    def objects(self) -> Path:
        """Where the vault's objects are: in the home, or in the folder of its custodian."""
        return (self.custodian or self.home) / "objects"

    @property
    def terms(self) -> Path:
        """Entries of the registry of terms that the organisation read itself."""
        return self.home / "terms"

    @property
    def rules(self) -> Path:
        """The organisation's own rules."""
        return self.home / "policy.toml"

    @property
    def prices(self) -> Path:
        """The organisation's own prices, which win over those that come with this version."""
        return self.home / "prices.toml"

    @property
    def fleet(self) -> Path:
        """The organisation's pools of GPUs."""
        return self.home / "fleet.toml"

    def __repr__(self) -> str:
        """Without the passphrase."""
        return f"Settings({self.home})"


class _Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    projects: dict[str, str] = {}
    teachers: dict[str, str] = {}


class _Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checkpoints: str = ""


class _Copy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    place: str
    domain: str = ""
    endpoint: str = ""
    lock_days: int = 0


class _Custody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    delete_bytes_per_day: int = Caps().delete_bytes_per_day
    delete_usd_per_day: str = str(Caps().delete_usd_per_day)
    custodian: str = ""
    key_stores: tuple[str, ...] = ()


class _Organisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    competes_with: tuple[str, ...] = ("*",)
    commercial: bool = True
    regions: tuple[str, ...] = ()
    monthly_users: int = 0


class _Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    organisation: _Organisation = _Organisation()
    log: _Log = _Log()
    budgets: _Budgets = _Budgets()
    custody: _Custody = _Custody()
    copies: dict[str, _Copy] = {}
    engine: EngineSettings = EngineSettings()


def read_settings(home: Path | None, environment: dict[str, str] | None = None) -> Settings:
    """The settings of a home; an argument wins over the environment, and that over the defaults. Raises HomeError."""
    variables: dict[str, str] | os._Environ[str] = os.environ if environment is None else environment
    place = (home or Path(variables.get("STILLHOUSE_HOME") or ".stillhouse")).absolute()
    config = _read_config(place / CONFIG)
    durability = variables.get("STILLHOUSE_DURABILITY") or "kill"
    if durability not in tuple(Durability):
        raise HomeError(
            f"STILLHOUSE_DURABILITY is {durability!r}.", next_step="Set it to kill or power, or leave it unset."
        )
    checkpoints = Path(config.log.checkpoints) if config.log.checkpoints else None
    return Settings(
        home=place,
        ledger_url=variables.get("STILLHOUSE_LEDGER_URL") or f"sqlite:///{place / 'ledger.db'}",
        organisation=Organisation(**msgspec.structs.asdict(config.organisation)),
        checkpoints=place / checkpoints if checkpoints else None,
        durability=Durability(durability),
        project_caps=config.budgets.projects,
        teacher_caps=config.budgets.teachers,
        identity=variables.get("STILLHOUSE_IDENTITY") or "",
        keys=_keys_folder(variables),
        passphrase=variables.get("STILLHOUSE_KEY_PASSPHRASE") or "",
        custody=_caps(config.custody, place / CONFIG),
        custodian=place / config.custody.custodian if config.custody.custodian else None,
        key_stores=tuple(place / store for store in config.custody.key_stores) or (place / "keys" / "erasure",),
        copies=tuple(
            Copy(name, _absolute(copy.place, place), copy.domain, copy.endpoint, copy.lock_days)
            for name, copy in config.copies.items()
        ),
        engine=_engine(config.engine, place / CONFIG),
    )


def secret_named(variable: str) -> str:
    """A secret from the environment, by the name that a command was given. Raises UsageError where it is not set."""
    secret = os.environ.get(variable, "")
    if not secret:
        raise UsageError(
            f"The variable {variable} is not set.", next_step=f"Set {variable}, and run the command again."
        )
    return secret


def _absolute(copy: str, home: Path) -> str:
    """A place of a copy, whatever folder a command is run in; one that is not said is found wanting where it is used."""
    return copy if "://" in copy or not copy else os.path.normpath(home / copy)


def _caps(config: _Custody, path: Path) -> Caps:
    try:
        usd = Decimal(config.delete_usd_per_day)
    except InvalidOperation as failure:
        raise HomeError(f"{path}: delete_usd_per_day is no amount.", next_step=f"Correct {path}.") from failure
    if not usd.is_finite() or usd < 0 or config.delete_bytes_per_day < 0:
        raise HomeError(f"{path}: a cap below zero or without end is none.", next_step=f"Correct {path}.")
    return Caps(config.delete_bytes_per_day, usd)


def _engine(config: EngineSettings, path: Path) -> EngineSettings:
    if not 0 <= config.workers <= _MOST_WORKERS:
        raise HomeError(
            f"{path}: [engine] workers is a number from 0 to {_MOST_WORKERS}.", next_step=f"Correct {path}."
        )
    return config


def _keys_folder(variables: Mapping[str, str]) -> Path:
    """Where a person's private keys are: with the person, not with any home."""
    if variables.get("STILLHOUSE_KEYS"):
        return Path(variables["STILLHOUSE_KEYS"]).absolute()
    base = variables.get("XDG_CONFIG_HOME") or str(Path(variables.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "stillhouse" / "keys"


def _read_config(path: Path) -> _Config:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, _Config)
    except FileNotFoundError:
        return _Config()
    except (OSError, ValueError, msgspec.ValidationError) as failure:
        raise HomeError(
            f"{path}: {failure}.", next_step=f"Correct {path}; docs/settings.md lists its keys."
        ) from failure
