"""Comparisons with labels: does a balanced training set make better models?"""
