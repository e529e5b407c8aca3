"""Data modules: one file per data set, each usable with any Lightning module."""

from lightning_advdrop.datamodules.digits import DigitsDataModule
from lightning_advdrop.datamodules.imdb import IMDBDataModule
from lightning_advdrop.datamodules.mnist import MNISTDataModule

__all__ = ["DigitsDataModule", "IMDBDataModule", "MNISTDataModule"]
