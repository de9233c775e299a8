r"""The labeled comparison on Planet's Amazon tiles: python -m jobs.compare_planet --images ... .

    ray job submit -- python -m jobs.compare_planet --images s3://bucket/train-jpg \
        --labels s3://bucket/train_v2.csv --out s3://bucket/compare-planet --ray-address auto

`balancer compare configs/compare-planet.yaml` with the two places of the data as options. Started
again it computes what is missing.
"""

from __future__ import annotations

from jobs.compare_places import run_job

if __name__ == "__main__":
    run_job("compare-planet.yaml")
