"""One build step that pyproject.toml cannot state: a wheel carries a copy of data_registry.txt."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Put the registry beside tamrl.data.cache; an editable install reads it from the top."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if not self.editable_mode:
            self.copy_file("data_registry.txt", f"{self.build_lib}/tamrl/data/data_registry.txt")


setup(cmdclass={"build_py": BuildPy})
