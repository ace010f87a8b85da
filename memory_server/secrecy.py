"""Who may use a file that holds a secret."""

import os
import stat

_FOR_OTHERS = 0o077
_FOR_OTHERS_OF_ROOTS = 0o037


def exposed(found: os.stat_result) -> bool:
    """Whether others than those that it is meant for may do something with a file of secrets.

    It is meant for its owner; and if that is root and this process is not, for root's group to read: so a platform
    hands secrets to a service, as Kubernetes does. Whoever is in that group was put there by root.
    """
    handed_down = found.st_uid == 0 and os.geteuid() != 0
    return bool(stat.S_IMODE(found.st_mode) & (_FOR_OTHERS_OF_ROOTS if handed_down else _FOR_OTHERS))
