r"""The labeled comparison on ADE20K scenes: python -m jobs.compare_ade20k --images ... .

    ray job submit -- python -m jobs.compare_ade20k --images s3://bucket/images \
        --labels s3://bucket/sceneCategories.txt --out s3://bucket/compare-ade20k --ray-address auto

`balancer compare configs/compare-ade20k.yaml` with the two places of the data as options. Started
again it computes what is missing.
"""

from __future__ import annotations

from jobs.compare_places import run_job

if __name__ == "__main__":
    run_job("compare-ade20k.yaml")
