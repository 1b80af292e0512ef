"""``python -m graphseq``: the command line."""

import sys

from graphseq.commands import main

sys.exit(main())
