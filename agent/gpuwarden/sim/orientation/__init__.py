"""DICOM images whose left is known, preprocessed rightly and wrongly: is every flip found, and nothing else?"""
