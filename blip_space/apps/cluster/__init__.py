"""Several machines, by Ray: workers that caption a folder, and replicas of the engine behind one server.

connection          connects to a cluster, and divides it among workers
worker_pool         the folder job's workers              worker    one of them
replicated_engine   an engine in front of many replicas   replica   one of them
attempts            how often workers started an image

Importing this needs Ray, which is an extra. Each machine of a cluster needs this package, and the model's files at the
same path or a network to download them.
"""

from __future__ import annotations

from blip_space.errors import UserError

try:
    import ray  # noqa: F401
except ImportError:
    raise UserError("--ray needs Ray, which is not installed: pip install 'ray[data,serve]>=2.60,<2.61'.") from None
