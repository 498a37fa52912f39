"""What pyproject.toml cannot state: a wheel carries data_registry.txt and the stored tables."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Put the registry and the tables into the package; an editable install reads them at the top.

    Notebooks that show long comparisons then run where only the package is installed.
    """

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if not self.editable_mode:
            self.copy_file("data_registry.txt", f"{self.build_lib}/tamrl/data/data_registry.txt")
            self.copy_tree("results", f"{self.build_lib}/tamrl/results")


setup(cmdclass={"build_py": BuildPy})
