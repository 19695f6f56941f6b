"""python -m hyperrun"""

from hyperrun.cli import main

raise SystemExit(main())
