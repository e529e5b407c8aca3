"""Data modules: one file per data set, each usable with any Lightning module."""

from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.digits import DigitsDataModule
from lightning_advdrop.datamodules.imdb import IMDBDataModule
from lightning_advdrop.datamodules.mnist import MNISTDataModule
from lightning_advdrop.datamodules.penn_treebank import PennTreebankDataModule
from lightning_advdrop.datamodules.text_file import TextFileDataModule
from lightning_advdrop.datamodules.wikitext2 import WikiText2DataModule

__all__ = [
    "ContiguousBatches",
    "DigitsDataModule",
    "IMDBDataModule",
    "MNISTDataModule",
    "PennTreebankDataModule",
    "TextFileDataModule",
    "WikiText2DataModule",
]
