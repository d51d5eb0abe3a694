"""More machines than one, by Ray: a folder's captions by a crew of workers, and visitors in front of replicas.

connection  how a cluster is reached, and what of it one worker gets
crew        the folder job's workers               worker   what each of them does
replicas    many engines that are taken for one    replica  one of them

Whoever imports this needs Ray, which is an extra. A cluster's machines each have this package installed and the
model's files at the same place, or the network to download them.
"""

from __future__ import annotations

from blip_space.errors import UserError

try:
    import ray  # noqa: F401
except ImportError:
    raise UserError("--ray needs Ray, which is not installed: pip install 'ray[data,serve]>=2.60,<2.61'.") from None
