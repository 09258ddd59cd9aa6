"""Which files of this directory run here.

test_build.py, test_constants.py and those about fakes are for a Linux machine.  test_keychain*.py
make and delete items in a keychain that must be nobody's: test_over_fakes.py runs them over the
fake keychain, which FAKE_KEYCHAIN in the environment shows.  on_a_mac.py and wheels_on_a_mac.py are
programs for a Mac; the first one runs interop_on_a_mac.py there.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if "FAKE_KEYCHAIN" in os.environ else ["test_keychain*.py"]
