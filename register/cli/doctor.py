"""``register doctor``."""

from register.cli.arguments import AsJson
from register.cli.output import print_json

WIDTH = 15


def doctor(as_json: AsJson = False) -> None:
    """Report versions, devices, codecs and plug-ins, what is missing and how to get it."""
    from register.workflows import doctor

    found = doctor.findings()
    if as_json:
        print_json({"findings": doctor.as_json(found)})
        return
    for finding in found:
        print(f"{finding.subject:{WIDTH}s} {finding.found}")
        if finding.advice:
            print(f"{'':{WIDTH}s} → {finding.advice}")
