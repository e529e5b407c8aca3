"""Data modules: one file per data set, each usable with any Lightning module."""

from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.digits import DigitsDataModule
from lightning_advdrop.datamodules.elec import ElecDataModule
from lightning_advdrop.datamodules.imdb import IMDBDataModule
from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.datamodules.mnist import MNISTDataModule
from lightning_advdrop.datamodules.penn_treebank import PennTreebankDataModule
from lightning_advdrop.datamodules.rcv1 import RCV1DataModule
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_batches import UNLABELLED, LengthBuckets, TextBatch, encode_documents
from lightning_advdrop.datamodules.text_file import TextFileDataModule
from lightning_advdrop.datamodules.text_files import Document, DocumentError
from lightning_advdrop.datamodules.wikitext2 import WikiText2DataModule

__all__ = [
    "UNLABELLED",
    "ContiguousBatches",
    "DigitsDataModule",
    "Document",
    "DocumentDataModule",
    "DocumentError",
    "ElecDataModule",
    "IMDBDataModule",
    "LengthBuckets",
    "MNISTDataModule",
    "PennTreebankDataModule",
    "RCV1DataModule",
    "TextBatch",
    "TextFileDataModule",
    "Vocabulary",
    "WikiText2DataModule",
    "encode_documents",
]
