#!/usr/bin/env python
"""Train a slot model, go on with an interrupted training, or score a checkpoint."""

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine import default_argument_parser, launch, train_net, user_errors


def main() -> None:
    """Parse, start the processes, train."""
    args = default_argument_parser().parse_args()
    with user_errors():
        launch(
            train_net,
            num_gpus=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )


if __name__ == "__main__":
    main()
