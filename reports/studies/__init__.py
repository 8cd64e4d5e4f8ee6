"""Studies: questions about scores, each answered by sentences, tables and pictures from one command."""
