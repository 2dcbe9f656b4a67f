"""``register doctor``."""

import json

from register.cli.arguments import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Say which versions, devices and codecs there are, what is missing and how to get it."""
    from register.workflows import doctor

    found = doctor.findings()
    if as_json:
        print(json.dumps({"findings": doctor.as_json(found)}, ensure_ascii=False))
        return
    for subject, there, advice in found:
        print(f"{subject:15s} {there}" + (f"\n{'':15s} → {advice}" if advice else ""))
