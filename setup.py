"""Package metadata of SlotSeg.

Detectron2 is not among the requirements because it is not on the package index:
``python tools/install_detectron2.py`` keeps an installed one or adds it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The version, read as text: importing slotseg here would need its requirements."""
    text = (ROOT / "slotseg" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def read_readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


setup(
    name="slotseg",
    version=read_version(),
    description="Slot-based panoptic segmentation for Detectron2",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    author="SlotSeg contributors",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["slotseg", "slotseg.*"]),
    package_data={
        "slotseg": ["visualization/templates/*", "ladder/templates/*", "comparison/*.yaml"]
    },
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.23",
        "scipy>=1.9",
        "Pillow>=9.1",
        "matplotlib>=3.6",
        "opencv-python-headless>=4.6",
        "safetensors>=0.4",
        "tensorboard>=2.10",
        "tqdm>=4.64",
        "Jinja2>=3.0",
        "MarkupSafe>=2.0",
        "tfrecord>=1.14",
        "protobuf>=3.20",
        "timm>=1.0.20",
        "diffusers>=0.35",
        # What Detectron2's Python imports.
        "fvcore>=0.1.5,<0.1.6",
        "iopath>=0.1.8",
        "omegaconf>=2.1",
        "pycocotools>=2.0.6",
        "cloudpickle",
        "PyYAML",
        "tabulate",
        "termcolor>=1.1",
        "yacs>=0.1.8",
    ],
    extras_require={
        # To convert Cityscapes.
        "cityscapes": ["cityscapesscripts>=2.2"],
        # Mask2Former and EoMT. Earlier releases start a new Mask2Former from other weights than the
        # published code, with which it hardly learns; this one needs Python 3.11.
        "transformers": ['transformers>=5.23; python_version >= "3.11"'],
        "dev": [
            "cityscapesscripts>=2.2",
            "hypothesis>=6.60",
            "packaging>=21",
            "pytest>=7.2",
            "pytest-xdist>=3.0",
            "ruff>=0.17",
            "scikit-learn>=1.2",
            'transformers>=5.23; python_version >= "3.11"',
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
