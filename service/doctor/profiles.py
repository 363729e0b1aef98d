"""The profiles of `io_config.yaml`: can they be read, and does somebody answer there?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pipelines.errors import MillraceError
from pipelines.io.config import Profile, ProfileError, Profiles
from pipelines.io.postgres import Postgres
from service.doctor.findings import Finding, Patient, problem, warning, well

KEY_FILE = "GOOGLE_SERVICE_ACC_KEY_FILEPATH"


def profiles(patient: Patient) -> Iterator[Finding]:
    """Try every profile of every project."""
    runtime = patient.runtime
    for project in runtime.projects.all():
        found = Profiles(project.root, environ=runtime.environ, secrets=runtime.secrets)
        for name in found.names():
            yield from _profile(f"{project.name}/{name}", found.profile(name))


def _profile(subject: str, profile: Profile) -> Iterator[Finding]:
    try:
        values = dict(profile)
    except ProfileError as error:
        remedy = "set it where the service runs; blocks that use the profile fail until then"
        yield warning("profile", subject, str(error), remedy)
        return
    for key, probe in _PROBES.items():
        if values.get(key) not in (None, ""):
            yield probe(subject, profile, str(values[key]))


def _postgres(subject: str, profile: Profile, host: str) -> Finding:
    try:
        with Postgres.from_profile(profile) as database:
            database.load("SELECT 1 AS one")
    except MillraceError as error:
        return problem("profile", subject, str(error), "mend the profile, or start the database")
    return well("profile", subject, f"Postgres at {host} answers")


def _key_file(subject: str, profile: Profile, path: str) -> Finding:
    file = profile.root / path
    if file.is_file():
        return well("profile", subject, f"the key file {file.name} is there")
    return problem(
        "profile", subject, f"the key file {file} is not there", f"put it there, or mend {KEY_FILE}"
    )


_PROBES: Mapping[str, Callable[[str, Profile, str], Finding]] = {
    "POSTGRES_HOST": _postgres,
    KEY_FILE: _key_file,
}
