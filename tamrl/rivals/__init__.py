"""The models that TAM-RL is compared with, behind the same interface: trees and networks."""
