"""Find the rate at which an optimizer turns the hidden layers by a given distance.

- find_rate.py: `find_rate`: choose a configuration of the job, and run the probes on Ray
- probes.py: short runs of one trial at constant rates
- estimate.py: ProbeRuns and FoundRates: forecast a whole run's rotation from the probes
- report.py: the found rates as text, as JSON and as a chart

Begin with find_rate.py.
"""
