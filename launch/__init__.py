"""One program per job: `python -m launch.<job> --config=configs/<x>.py --workdir=<dir>`."""
